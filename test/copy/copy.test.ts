import { existsSync } from 'node:fs'
import { readdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { answerOf, backUp, failureOf, recover, restoreTo } from '../backup/commands.ts'
import { type TableChecksum, tableChecksums } from '../lab/checksums.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { giveToLabUser } from '../lab/user.ts'
import { objectOf } from '../wal/segments.ts'

interface Answer {
  cluster: string
  backups: { id: string; verdict: string }[]
  wal: { timeline: number; files: number }[]
  copied: { backups: { id: string; resumedBytes: number }[]; walFiles: number; walBytes: number }
  failures: { what: string; kind: string }[]
}

/**
 * Two backups on timeline 1, and timeline 2, which a recovery began. Nobody archives any more, so that repositories can be
 * given to the cluster into which only copies go.
 */
let lab: Lab
let older: BackupRecord
let newer: BackupRecord
let atTheEnd: TableChecksum[]
let lastSegment: string

/** Loaded into pgrecall: the process sends itself a signal as it begins to write its so many-th object. */
const SIGNAL_HOOK = `
import promises from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
const { open } = promises
let left = Number(process.env.TEST_WRITES)
promises.open = (path, ...rest) => {
  if (String(path).includes('/.incoming/') && --left === 0) process.kill(process.pid, process.env.TEST_SIGNAL)
  return open(path, ...rest)
}
syncBuiltinESMExports()
`

let count = 0

/** Adds repositories to the configuration: the cluster has those, and `local`. @returns their folders */
async function addRepositories(...encryptions: (Record<string, unknown> | undefined)[]): Promise<string[]> {
  const names = encryptions.map((_, index) => `other-${count}-${index}`)
  count++
  const folders = names.map((name) => join(lab.scratch.path, name))
  await lab.writeConfiguration(({ repositories, clusters }) => {
    for (const [index, name] of names.entries()) {
      const encryption = encryptions[index]
      repositories[name] = { type: 'local', path: folders[index], ...(encryption && { encryption }) }
    }
    clusters.main!.repositories = ['local', ...names]
  })
  return names
}

async function copy(to: string, ...args: string[]): Promise<Answer> {
  const [answer] = await answerOf<Answer[]>(lab, ['copy', '--to', to, ...args])
  return answer!
}

async function listedIn(repository: string) {
  const [catalog] = await answerOf<{ backups: unknown[]; damaged: unknown[]; gaps: unknown[] }[]>(lab, [
    'list',
    '--repository',
    repository,
  ])
  return catalog!
}

const namesIn = (folder: string) => readdir(folder).catch(() => [])

/** What is recovered from a repository alone, with all others gone. */
async function tablesRecoveredFrom(repository: string): Promise<TableChecksum[]> {
  await rename(lab.repository, `${lab.repository}.away`)
  try {
    const server = await recover(lab, `restored from ${repository}`, ['--repository', repository])
    await server.waitForPromotion()
    const tables = await tableChecksums(server)
    await server.stop('immediate')
    return tables
  } finally {
    await rename(`${lab.repository}.away`, lab.repository)
  }
}

describe.skipIf(!findPrograms() && !process.env.CI)('copy', () => {
  beforeAll(async () => {
    lab = await Lab.create()
    const { cluster } = lab
    await cluster.sql('CREATE TABLE notes AS SELECT generate_series(1, 10000) AS n')
    older = await backUp(lab)
    await cluster.sql('INSERT INTO notes SELECT generate_series(1, 1000)')
    await cluster.archiveWal()
    newer = await backUp(lab)
    await cluster.archiveWal()
    await cluster.stop()
    const directory = await restoreTo(lab, 'second', ['--target-action', 'promote'])
    const second = await lab.adopt(directory)
    await second.start()
    await second.waitForPromotion()
    await second.sql('INSERT INTO notes SELECT generate_series(1, 100)')
    lastSegment = await second.archiveWal()
    atTheEnd = await tableChecksums(second)
    await second.stop()
  }, 180_000)
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('moves all that a recovery needs, once', async () => {
    const [other] = await addRepositories(undefined)
    const plan = await lab.pgrecall(['copy', '--to', other!, '--dry-run'])
    expect(plan.stdout).toMatch(new RegExp(`${older.id} .* copy +is not there yet`))
    expect(plan.stdout).toMatch(
      /WAL of timeline 2, 00000002\.history to 0000000200000000\w+ \(\d+ files, .*\) would be copied/,
    )
    expect(await namesIn(join(lab.scratch.path, other!))).not.toContain('main')

    const first = await copy(other!)
    expect(first.copied.backups.map(({ id }) => id)).toEqual([older.id, newer.id])
    expect(first.failures).toEqual([])
    expect(await tablesRecoveredFrom(other!)).toEqual(atTheEnd)

    const again = await lab.pgrecall(['copy', '--to', other!])
    expect(again).toMatchObject({ exitCode: 0 })
    expect(again.stdout).toContain('Nothing to copy')
    const { backups, gaps } = await listedIn(other!)
    expect(backups).toEqual((await listedIn('local')).backups)
    expect(gaps).toEqual([])
  })

  test('chooses backups, and the WAL from there on', async () => {
    const [other] = await addRepositories(undefined)
    expect((await copy(other!, 'latest')).copied.backups.map(({ id }) => id)).toEqual([newer.id])
    const first = objectOf(lab, older.start.walFile, join(lab.scratch.path, other!))
    expect(existsSync(first)).toBe(false)
    expect((await copy(other!, older.id)).copied.backups.map(({ id }) => id)).toEqual([older.id])
    expect(await failureOf(lab, ['copy', 'nothing', '--to', other!])).toMatchObject({ kind: 'absent' })
    expect(await tablesRecoveredFrom(other!)).toEqual(atTheEnd)
  })

  test('brings WAL that an optional repository could not take', async () => {
    const [other] = await addRepositories(undefined)
    const alone = await copy(other!, newer.id, '--no-wal')
    expect(alone.copied).toMatchObject({ backups: [{ id: newer.id }], walFiles: 0 })
    const filled = await copy(other!, '--wal-only')
    expect(filled.backups).toEqual([])
    expect(filled.copied.walFiles).toBeGreaterThan(2)
    expect(await copy(other!, '--wal-only')).toMatchObject({ copied: { walFiles: 0 } })
    expect(await tablesRecoveredFrom(other!)).toEqual(atTheEnd)
  })

  test('encrypts on the way, copies without any key, and decrypts', async () => {
    const key = await newIdentity()
    const identityFile = await lab.scratch.file('identity.txt', `${key.identity}\n`)
    await giveToLabUser(identityFile)
    const recipients = [key.recipient]
    const [encrypted, second, readable, plain] = await addRepositories(
      { recipients },
      { recipients },
      { recipients, identityFile },
      undefined,
    )
    expect((await copy(encrypted!)).failures).toEqual([])
    expect((await copy(second!, '--from', encrypted!)).failures).toEqual([])
    expect(await failureOf(lab, ['copy', '--from', second!, '--to', plain!])).toMatchObject({ exitCode: 14 })
    expect((await copy(readable!, '--from', second!)).failures).toEqual([])
    expect((await copy(plain!, '--from', readable!)).failures).toEqual([])
    expect(await tablesRecoveredFrom(readable!)).toEqual(atTheEnd)
    expect(await tablesRecoveredFrom(plain!)).toEqual(atTheEnd)
  })

  test('says so in the exit code when something is damaged', async () => {
    const [other] = await addRepositories(undefined)
    const segment = objectOf(lab, lastSegment)
    await rename(segment, `${segment}.good`)
    try {
      await rename(objectOf(lab, newer.stop.walFile), segment)
      const { exitCode, stdout } = await lab.pgrecall(['copy', '--to', other!, '--json'])
      const [answer] = JSON.parse(stdout) as Answer[]
      expect(exitCode).toBe(9)
      expect(answer!.failures.map(({ what, kind }) => [what, kind])).toContainEqual([lastSegment, 'damaged'])
      expect(answer!.copied.backups.map(({ id }) => id)).toEqual([older.id])
    } finally {
      await rename(segment, objectOf(lab, newer.stop.walFile))
      await rename(`${segment}.good`, segment)
    }
  })

  test.each([
    ['SIGINT', 8],
    ['SIGTERM', 16],
  ] as const)('by %s before its write number %s stops, and goes on', async (signal, writes) => {
    const [other] = await addRepositories(undefined)
    const hook = await lab.scratch.file('signal-hook.mjs', SIGNAL_HOOK)
    const env = {
      NODE_OPTIONS: `--import=${hook}`,
      TEST_SIGNAL: signal,
      TEST_WRITES: String(writes),
    }
    const { exitCode } = await lab.pgrecall(['copy', '--to', other!, '--jobs', '1'], { env })
    expect(exitCode).toBe(130)
    const folder = join(lab.scratch.path, other!)
    expect(await namesIn(join(folder, 'main/wal'))).not.toEqual([])
    for (const left of ['.incoming', 'main/locks']) expect(await namesIn(join(folder, left))).toEqual([])
    expect(await namesIn(join(lab.repository, 'main/pins'))).toEqual([])
    expect((await listedIn(other!)).damaged).toEqual([])
    expect((await copy(other!)).failures).toEqual([])
    expect((await listedIn(other!)).backups).toEqual((await listedIn('local')).backups)
  })

  test('goes through all clusters, also behind one that fails', async () => {
    const [other] = await addRepositories(undefined)
    await lab.writeConfiguration(({ repositories, clusters }) => {
      repositories[other!] = { type: 'local', path: join(lab.scratch.path, other!) }
      const main = { ...clusters.main!, repositories: ['local', other!] }
      delete clusters.main
      Object.assign(clusters, { empty: main, alone: { ...main, repositories: [other!] }, main })
    })
    const args = ['copy', '--to', other!, '--all-clusters', '--json']
    const { exitCode, stdout } = await lab.pgrecall(args)
    const answers = JSON.parse(stdout) as (Answer & { error?: { kind: string } })[]
    expect(exitCode).toBe(1)
    expect(answers.map(({ cluster, error }) => [cluster, error?.kind])).toEqual([
      ['empty', 'absent'],
      ['main', undefined],
    ])
    expect(answers[1]!.copied.backups.map(({ id }) => id)).toEqual([older.id, newer.id])
  })

  test('refuses what has no meaning', async () => {
    const [other] = await addRepositories(undefined)
    expect(await failureOf(lab, ['copy', '--to', 'local', '--from', 'local'])).toMatchObject({
      kind: 'usage',
    })
    expect(await failureOf(lab, ['copy', 'latest', '--to', other!, '--wal-only'])).toMatchObject({
      kind: 'usage',
    })
    expect(await failureOf(lab, ['copy', '--to', 'nowhere'])).toMatchObject({ kind: 'config' })
    expect(await failureOf(lab, ['copy', '--from', other!, '--to', 'local'])).toMatchObject({
      kind: 'absent',
    })
  })
})

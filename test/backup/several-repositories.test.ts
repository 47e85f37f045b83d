import { chmod, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { debrisIn } from '../crash/repository.ts'
import { tableChecksums } from '../lab/checksums.ts'
import { Lab, type LabConfiguration } from '../lab/lab.ts'
import { Load } from '../lab/load.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { giveToLabUser } from '../lab/user.ts'
import { answerOf, backUp, failureOf, recover } from './commands.ts'

const MIB = 1024 * 1024

/** What `backup --json` says. */
interface Answer extends BackupRecord {
  repositories: { name: string; result: string; required?: boolean; kind?: string; reason?: string }[]
}

describe.skipIf(!findPrograms() && !process.env.CI)('a backup to two repositories', () => {
  let lab: Lab
  let second: string

  beforeAll(async () => {
    lab = await Lab.create({
      repositories: { local: 'local', second: 'local' },
      configure: inSmallShards,
    })
    second = (lab.repositories.second!.configuration as { path: string }).path
    await lab.cluster.pgbench(['--initialize', '--scale=1', '--quiet'])
    await lab.cluster.sql('CHECKPOINT')
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  /** The ids of the backups that a repository holds. */
  async function idsIn(repository: string): Promise<string[]> {
    const args = ['list', '--repository', repository]
    const [listing] = await answerOf<{ backups: { id: string }[] }[]>(lab, args)
    return listing!.backups.map(({ id }) => id)
  }

  async function recordIn(folder: string, id: string): Promise<BackupRecord> {
    return JSON.parse(await readFile(join(folder, 'main/backups', id, 'backup.json'), 'utf8'))
  }

  /** Everything in the folder of a backup that its record names, and nothing else. */
  async function expectWhole(folder: string, id: string): Promise<void> {
    const { objects } = await recordIn(folder, id)
    const stored = await readdir(join(folder, 'main/backups', id))
    expect(stored.sort()).toEqual([...objects.map(({ name }) => name), 'backup.json'].sort())
  }

  test('reads the cluster once, and each of them restores', async () => {
    await using load = Load.start(lab.cluster)
    const answer = (await backUp(lab)) as Answer
    expect(answer.repositories).toMatchObject([
      { name: 'local', result: 'stored' },
      { name: 'second', result: 'stored' },
    ])
    expect(await load.stop()).toBe('')
    const [here, there] = [await recordIn(lab.repository, answer.id), await recordIn(second, answer.id)]
    const shardsOf = ({ objects }: BackupRecord) => objects.filter(({ kind }) => kind === 'shard')
    // Read twice, files that change all the while would not have the same bytes.
    expect(shardsOf(there)).toEqual(shardsOf(here))
    await lab.cluster.archiveWal()
    const expected = await tableChecksums(lab.cluster)
    for (const name of ['local', 'second']) {
      const server = await recover(lab, `from ${name}`, ['--repository', name])
      await server.waitForPromotion()
      expect(await tableChecksums(server)).toEqual(expected)
      await server.stop()
    }
  })

  test.each([
    ['a required repository', true, 7, 'It is NOT in "second": '],
    ['an optional one', false, 0, 'It is not in the optional repository "second": '],
  ])('goes on when %s cannot be written any more', async (_what, required, code, sentence) => {
    await lab.writeConfiguration((configuration) => {
      configuration.clusters.main!.repositories = ['local', { name: 'second', required }]
      inSmallShards(configuration)
    })
    const before = await idsIn('second')
    const { process: running } = await lab.startPgrecall(['backup', '--max-rate', '8MB'])
    const id = await untilShards(3, await foldersOf(second))
    const closed = [join(second, '.incoming'), join(second, 'main/backups', id)]
    for (const folder of closed) await chmod(folder, 0o500)
    const { exitCode, stdout, stderr } = await running
    for (const folder of closed) await chmod(folder, 0o700)
    expect(stderr).toContain('warning: no backup in repository "second": cannot write')
    expect(stdout).toMatch(/^Backup .* is complete/)
    expect(stdout).toContain('It is in "local".')
    expect(stdout).toContain(sentence)
    expect(exitCode).toBe(code)
    await expectWhole(lab.repository, id)
    expect((await idsIn('local')).at(-1)).toBe(id)
    expect(await idsIn('second')).toEqual(before)
    // Nothing could be removed there.
    expect(await debrisIn(second)).toContain(`backups/${id}`)

    const next = (await backUp(lab)) as Answer
    expect(next.id).not.toBe(id)
    expect(next.resumedBytes).toBe(0)
    expect(await debrisIn(second)).toEqual([])
    for (const folder of [lab.repository, second]) await expectWhole(folder, next.id)
  })

  test('goes to the other one when a host holds the lock of one', async () => {
    await lab.writeConfiguration(inSmallShards)
    await using lock = await lockOfAnotherHost(second)
    const before = await idsIn('second')
    const { exitCode, stdout } = await lab.pgrecall(['backup', '--json'])
    const answer = JSON.parse(stdout) as Answer
    expect(answer.repositories).toMatchObject([
      { name: 'local', result: 'stored' },
      { name: 'second', result: 'failed', required: true, kind: 'busy' },
    ])
    expect(answer.repositories[1]!.reason).toContain('on elsewhere')
    expect(exitCode).toBe(6)
    expect((await idsIn('local')).at(-1)).toBe(answer.id)
    expect(await idsIn('second')).toEqual(before)
    expect(await readdir(join(second, 'main/locks'))).toEqual([lock.name])
  })

  test('fails when all do, and says why', async () => {
    const before = [await idsIn('local'), await idsIn('second')]
    await using _here = await lockOfAnotherHost(lab.repository)
    await using _there = await lockOfAnotherHost(second)
    expect(await failureOf(lab, ['backup'])).toMatchObject({
      exitCode: 6,
      kind: 'busy',
      message: expect.stringContaining(lab.repository),
    })
    expect([await idsIn('local'), await idsIn('second')]).toEqual(before)
  })

  test('that was killed is gone on with: what is whole in both is kept', async () => {
    await lab.cluster.sql('CHECKPOINT')
    await untilSettled()
    const known = await foldersOf(second)
    const { process: running } = await lab.startPgrecall(['backup', '--max-rate', '8MB'])
    const id = await untilShards(8, known)
    running.kill('SIGKILL')
    await running
    const folder = join(second, 'main/backups', id)
    // As if it had been killed before it was stored there: its index says that the shard is whole.
    const gone = (await readdir(folder)).filter((name) => name.includes('.index.')).sort()[0]!
    await rm(join(folder, gone))

    const answer = (await backUp(lab)) as Answer
    expect(answer.id).toBe(id)
    expect(answer.resumedBytes).toBeGreaterThan(MIB)
    for (const place of [lab.repository, second]) await expectWhole(place, id)
    const [here, there] = [await recordIn(lab.repository, id), await recordIn(second, id)]
    expect(there.objects.map(({ name, sha256 }) => [name, sha256])).toEqual(
      here.objects.map(({ name, sha256 }) => [name, sha256]),
    )
    const expected = await tableChecksums(lab.cluster)
    await lab.cluster.archiveWal()
    const server = await recover(lab, 'gone on with', ['--repository', 'second'])
    await server.waitForPromotion()
    expect(await tableChecksums(server)).toEqual(expected)
  })

  async function foldersOf(repository: string): Promise<string[]> {
    return readdir(join(repository, 'main/backups')).catch(() => [])
  }

  /** Waits until a new backup has so many whole shards in the second repository. @returns its id */
  function untilShards(shards: number, before: string[]): Promise<string> {
    return poll(
      async () => {
        const id = (await foldersOf(second)).find((name) => !before.includes(name))
        const names = id === undefined ? [] : await readdir(join(second, 'main/backups', id)).catch(() => [])
        return names.filter((name) => name.includes('.index.')).length >= shards ? id : undefined
      },
      { what: `${shards} shards`, everyMs: 10 },
    )
  }

  /** A file that changed a moment ago says nothing by its time, so its shard would not be kept. */
  async function untilSettled(): Promise<void> {
    await lab.cluster.waitUntil(`(SELECT max((pg_stat_file(pg_relation_filepath(oid))).modification) FROM pg_class
      WHERE relname LIKE 'pgbench%' AND relkind = 'r') < now() - interval '3 seconds'`)
  }
})

function inSmallShards({ clusters }: LabConfiguration): void {
  clusters.main!.backup = { shardSize: '1MB' }
}

/** A lock that is held, as far as one can see from here. */
async function lockOfAnotherHost(repository: string): Promise<AsyncDisposable & { name: string }> {
  const folder = join(repository, 'main/locks')
  const name = '0000000001.json'
  const now = new Date().toISOString()
  const holder = { id: 'x', purpose: 'backup', host: 'elsewhere', pid: 7, since: now, renewedAt: now }
  await mkdir(folder, { recursive: true, mode: 0o700 })
  await writeFile(join(folder, name), JSON.stringify(holder))
  for (const path of [folder, join(folder, name)]) await giveToLabUser(path)
  return { name, [Symbol.asyncDispose]: () => rm(folder, { recursive: true }) }
}

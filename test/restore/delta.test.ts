import { existsSync } from 'node:fs'
import { link, lstat, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { escapeLiteral } from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { MARKER } from '../../src/restore/data-directory.ts'
import type { RestoreResult } from '../../src/restore/restore-cluster.ts'
import { answerOf, backUp, failureOf, labFolder, type RestoreAnswer, restoreTo } from '../backup/commands.ts'
import { type TableChecksum, tableChecksums } from '../lab/checksums.ts'
import { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'

let lab: Lab
let backup: BackupRecord
let before: TableChecksum[]
let spaceOid: string

const place = (name: string) => join(lab.scratch.path, name)
const spaceFor = (name: string) => ['--tablespace', `space=${place(`${name}-space`)}`]
type Answer = RestoreAnswer & Required<RestoreResult>

/** A cluster as it was restored, and then as it is after some life of its own. */
async function livedIn(name: string): Promise<string> {
  const directory = await restoreTo(lab, name, spaceFor(name))
  const server = await lab.adopt(directory, { settings: { archive_mode: 'off' } })
  await server.start()
  await server.waitForPromotion()
  await server.sql(`UPDATE numbers SET n = -n WHERE n <= 1000`)
  await server.sql(`CREATE TABLE later AS SELECT generate_series(1, 10000) AS n`)
  await server.sql(`INSERT INTO elsewhere VALUES (0)`)
  await server.sql(`CREATE TABLE stray TABLESPACE space AS SELECT 1 AS n`)
  await server.sql('CREATE DATABASE later')
  await server.sql('DROP TABLE dropped')
  await server.stop()
  return directory
}

const delta = (name: string, args: string[] = []) =>
  answerOf<Answer>(lab, ['restore', '--delta', '-D', place(name), ...spaceFor(name), ...args])

async function requireRestored(name: string): Promise<void> {
  const directory = place(name)
  expect(existsSync(join(directory, MARKER))).toBe(false)
  // It tells of files that are missing, that are changed, and that are too many.
  await lab.cluster.run('pg_verifybackup', ['-n', directory])
  const server = await lab.adopt(directory, { settings: { archive_mode: 'off' } })
  await server.start()
  await server.waitForPromotion()
  expect(await tableChecksums(server)).toEqual(before)
  await server.stop()
}

describe.skipIf(!findPrograms() && !process.env.CI)('restore --delta', () => {
  beforeAll(async () => {
    lab = await Lab.create()
    const location = await labFolder(place('space'))
    await lab.cluster.sql(`CREATE TABLESPACE space LOCATION ${escapeLiteral(location)}`)
    await lab.cluster.sql('CREATE TABLE numbers AS SELECT generate_series(1, 200000) AS n')
    await lab.cluster.sql('CREATE TABLE elsewhere TABLESPACE space AS SELECT generate_series(1, 1000) AS n')
    await lab.cluster.sql('CREATE TABLE dropped AS SELECT 1 AS n')
    await lab.cluster.sql('CHECKPOINT')
    backup = await backUp(lab)
    spaceOid = backup.tablespaces[0]!.oid
    before = await tableChecksums(lab.cluster)
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('writes what differs, and removes what is not in the backup', async () => {
    const directory = await livedIn('lived')
    await labFolder(join(directory, 'base/99999'))
    await writeFile(join(directory, 'base/99999/1'), 'stray')
    await writeFile(join(directory, 'standby.signal'), '')
    const [version] = await readdir(place('lived-space'))
    await writeFile(join(place('lived-space'), version!, 'stray'), 'stray')
    await mkdir(join(place('lived-space'), 'PG_9.6_201608131'))
    const { stdout } = await lab.pgrecall([
      'restore',
      '--dry-run',
      '--delta',
      '-D',
      directory,
      ...spaceFor('lived'),
    ])
    expect(stdout).toContain(`writes what differs in ${directory}, and removes what is not in the backup`)
    expect(existsSync(join(directory, 'base/99999/1'))).toBe(true)

    const answer = await delta('lived')
    expect(answer.replaces).toEqual([directory, place('lived-space')])
    expect(answer.bytes).toBe(backup.dataBytes)
    expect(answer.delta.keptBytes).toBeGreaterThan(answer.bytes * 0.6)
    expect(answer.delta.writtenBytes).toBeGreaterThan(0)
    expect(answer.delta.writtenBytes).toBeLessThan(answer.bytes * 0.4)
    for (const path of ['base/99999', 'standby.signal', 'backup_label.old']) {
      expect([path, existsSync(join(directory, path))]).toEqual([path, false])
    }
    expect(existsSync(join(place('lived-space'), version!, 'stray'))).toBe(false)
    expect(existsSync(join(place('lived-space'), 'PG_9.6_201608131'))).toBe(true)
    await requireRestored('lived')
  })

  test('tells how much it wrote and how much it left', async () => {
    await restoreTo(lab, 'told', spaceFor('told'))
    const { stdout } = await lab.pgrecall(['restore', '--delta', '-D', place('told'), ...spaceFor('told')])
    expect(stdout).toMatch(/\([\d.]+ \w+ written, [\d.]+ MiB left as they were\)/)
  })

  test('into an empty directory is a restore', async () => {
    const answer = await delta('empty')
    expect(answer.replaces).toEqual([])
    expect(answer.delta.keptBytes).toBe(0)
    await requireRestored('empty')
  })

  test('writes through no link, symbolic or hard', async () => {
    const directory = await livedIn('linked')
    const outside = await labFolder(place('outside'))
    const [database] = (await readdir(join(directory, 'base'))).filter((name) => Number(name) > 4)
    // A file, a folder, the WAL's folder, and a second name of a file.
    await rename(join(directory, 'PG_VERSION'), join(outside, 'PG_VERSION'))
    await writeFile(join(outside, 'PG_VERSION'), `${backup.postgres.version / 10_000}\n\n`)
    await symlink(join(outside, 'PG_VERSION'), join(directory, 'PG_VERSION'))
    await rename(join(directory, 'base', database!), join(outside, 'database'))
    await symlink(join(outside, 'database'), join(directory, 'base', database!))
    await rename(join(directory, 'pg_wal'), join(outside, 'pg_wal'))
    await symlink(join(outside, 'pg_wal'), join(directory, 'pg_wal'))
    await writeFile(join(directory, 'pg_hba.conf'), 'outside too')
    await link(join(directory, 'pg_hba.conf'), join(outside, 'pg_hba.conf'))
    await rm(join(directory, 'pg_xact'), { recursive: true })
    await writeFile(join(directory, 'pg_xact'), 'a file in the place of a folder')
    const names = await readdir(outside, { recursive: true })

    await delta('linked')
    expect(await readdir(outside, { recursive: true })).toEqual(names)
    expect(await readFile(join(outside, 'PG_VERSION'), 'utf8')).toMatch(/\n\n$/)
    expect(await readFile(join(outside, 'pg_hba.conf'), 'utf8')).toBe('outside too')
    expect((await lstat(join(directory, 'pg_wal'))).isDirectory()).toBe(true)
    await requireRestored('linked')
  })

  test.each([
    ['with', ['--delta']],
    ['without', []],
  ] as const)('that was killed is gone on from, %s --delta', async (word, args) => {
    const name = `killed-${word}`
    const directory = await livedIn(name)
    const command = ['restore', '-D', directory, ...spaceFor(name)]
    const { process } = await lab.startPgrecall([...command, '--delta'])
    const control = join(directory, 'global/pg_control')
    await poll(() => !existsSync(control), { what: 'pg_control to be gone', everyMs: 1 })
    process.kill('SIGKILL')
    await process
    expect(existsSync(control)).toBe(!existsSync(join(directory, MARKER)))
    await answerOf(lab, [...command, ...args])
    await requireRestored(name)
  })

  test('is refused for what was no cluster, what runs, and what is of another version', async () => {
    const photographs = await labFolder(place('photographs'))
    await writeFile(join(photographs, 'holiday.jpg'), 'sun')
    const directory = await restoreTo(lab, 'other', spaceFor('other'))
    await writeFile(join(directory, 'PG_VERSION'), '9.6\n')
    const refusals = [
      [photographs, 'no PostgreSQL data directory'],
      [lab.cluster.dataDirectory, 'postmaster.pid'],
      [directory, 'of PostgreSQL 9.6'],
    ] as const
    for (const [path, words] of refusals) {
      const before = await readdir(path)
      const args = ['restore', '--delta', '--force', '-D', path, ...spaceFor('other')]
      const failure = await failureOf(lab, args)
      expect(failure).toMatchObject({ exitCode: 5, kind: 'refused' })
      expect(failure.message).toContain(words)
      expect(await readdir(path)).toEqual(before)
    }
  })

  test('leaves the cluster as it is where the backup is not whole', async () => {
    const directory = await restoreTo(lab, 'unharmed', spaceFor('unharmed'))
    const index = backup.objects.find(({ kind }) => kind === 'index')!.name
    const path = join(lab.repository, 'main/backups', backup.id, index)
    const bytes = await readFile(path)
    for (const broken of [undefined, bytes.subarray(0, -1)]) {
      await (broken ? writeFile(path, broken) : rm(path))
      const args = ['restore', '--delta', '-D', directory, ...spaceFor('unharmed')]
      expect(await failureOf(lab, args)).toMatchObject({ kind: 'damaged' })
      expect(existsSync(join(directory, 'global/pg_control'))).toBe(true)
      await lab.cluster.run('pg_verifybackup', ['-n', directory])
    }
    await writeFile(path, bytes)
  })

  test('goes on from what there is when --force is given too', async () => {
    await restoreTo(lab, 'both', spaceFor('both'))
    const answer = await delta('both', ['--force'])
    expect(answer.delta.keptBytes).toBeGreaterThan(answer.bytes * 0.9)
  })

  test('brings back a tablespace that is missing or broken', async () => {
    const directory = await restoreTo(lab, 'broken', spaceFor('broken'))
    await rm(place('broken-space'), { recursive: true })
    await rm(join(directory, 'pg_tblspc', spaceOid))
    await mkdir(join(directory, 'pg_tblspc', spaceOid))
    await delta('broken')
    await requireRestored('broken')
  })
})

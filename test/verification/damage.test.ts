import { existsSync } from 'node:fs'
import { readFile, rename, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { backupPrefix, walKey } from '../../src/catalog/layout.ts'
import type { LogicalRecord } from '../../src/catalog/logical-record.ts'
import { readVerifications } from '../../src/catalog/verification-file.ts'
import { segmentNumberOf } from '../../src/catalog/wal-ranges.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { readAnyRecord } from '../../src/verification/twin.ts'
import type { VerifiedRepository } from '../../src/verification/verified.ts'
import { answerOf, backUp, labFolder, restoreTo } from '../backup/commands.ts'
import { Lab } from '../lab/lab.ts'
import { newKey } from '../lab/lab-repository.ts'
import { poll } from '../lab/poll.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { plainRepository } from '../lab/repositories.ts'
import { giveToLabUser } from '../lab/user.ts'

/** Plain here, and encrypted there. */
type Where = 'local' | 'there'

const SEGMENT = 1024 * 1024

let lab: Lab
let full: BackupRecord
let incremental: BackupRecord
let alone: BackupRecord
let spare: BackupRecord
let logical: LogicalRecord
let segments: string[]

const fileOf = (where: Where, key: string) => join(lab.repositories[where]!.storage.location, key)

async function verify(
  where: Where,
  ...args: string[]
): Promise<{ exitCode: number | undefined } & VerifiedRepository> {
  const { exitCode, stdout, stderr } = await lab.pgrecall([
    'verify',
    '--repository',
    where,
    '--json',
    ...args,
  ])
  const answer = JSON.parse(stdout) as VerifiedRepository[]
  if (!Array.isArray(answer)) throw new Error(`${stdout}${stderr}`)
  const found = answer[0]!
  return { exitCode, ...found }
}

/** The key of the first object of a kind in a backup; of shards, of a group. */
async function keyOf(
  where: Where,
  { id }: { id: string },
  kind: string,
  group?: string,
  nth = 0,
): Promise<string> {
  const repository = plainRepository(where, new LocalStorage(fileOf(where, '')))
  const record = (await readAnyRecord(repository, 'main', id))!
  const objects = record.objects as { name: string; kind: string; group?: string }[]
  const found = objects.filter((object) => object.kind === kind && (!group || object.group === group))[nth]
  if (!found) throw new Error(`${id} has no ${kind} ${group ?? ''}`)
  return backupPrefix('main', id) + found.name
}

const stored = (where: Where, name: string) => walKey('main', name, where === 'local' ? 'plain' : 'sealed')
const recordKey = ({ id }: { id: string }) => `${backupPrefix('main', id)}backup.json`

/** One object of each kind. */
async function oneOfEach(where: Where): Promise<string[]> {
  const oid = full.tablespaces[0]!.oid
  return [
    await keyOf(where, full, 'shard', 'base'),
    await keyOf(where, full, 'shard', oid),
    await keyOf(where, full, 'index', undefined, 1),
    await keyOf(where, full, 'manifest'),
    await keyOf(where, full, 'text'),
    await keyOf(where, incremental, 'shard', 'base'),
    await keyOf(where, incremental, 'index'),
    await keyOf(where, alone, 'shard', 'wal'),
    await keyOf(where, logical, 'dump'),
    await keyOf(where, logical, 'globals'),
    await keyOf(where, logical, 'contents'),
    await keyOf(where, logical, 'fingerprint'),
    recordKey(spare),
    stored(where, segments[1]!),
    stored(where, '00000002.history'),
    stored(where, `${segments[0]}.partial`),
    stored(where, await labelOf(where)),
  ].toSorted()
}

async function labelOf(where: Where): Promise<string> {
  const storage = new LocalStorage(fileOf(where, ''))
  for await (const { key } of storage.list('main/wal/')) {
    const name = /([^/]*\.backup)\.zst(?:\.age)?$/.exec(key)?.[1]
    if (name) return name
  }
  throw new Error('no label is archived')
}

async function flip(path: string): Promise<void> {
  const bytes = await readFile(path)
  const at = Math.floor(bytes.length * 0.7)
  bytes[at]! ^= 1
  await writeFile(path, bytes)
}

const cut = async (path: string) => truncate(path, Math.floor((await readFile(path)).length / 2))

async function swap(one: string, other: string): Promise<void> {
  await rename(one, `${one}.aside`)
  await rename(other, one)
  await rename(`${one}.aside`, other)
}

async function swapped(where: Where): Promise<string[]> {
  const pairs = [
    [await keyOf(where, full, 'shard', 'base'), await keyOf(where, alone, 'shard', 'base')],
    [await keyOf(where, full, 'index'), await keyOf(where, incremental, 'index')],
    [await keyOf(where, full, 'manifest'), await keyOf(where, incremental, 'manifest')],
    [await keyOf(where, full, 'text'), await keyOf(where, alone, 'text')],
    [await keyOf(where, logical, 'dump'), await keyOf(where, logical, 'dump', undefined, 1)],
    [stored(where, segments[0]!), stored(where, segments[1]!)],
  ] as const
  for (const pair of pairs) await swap(fileOf(where, pair[0]), fileOf(where, pair[1]))
  return pairs.flat().toSorted()
}

const keysOf = ({ damaged }: VerifiedRepository) => damaged.map(({ key }) => key).toSorted()
const costOf = ({ damaged }: VerifiedRepository, key: string) =>
  damaged.find((damage) => damage.key === key)!.consequence

/** All of it is found, each with what it costs and a copy that heals it; healed, and sound. */
async function foundAndHealed(where: Where, keys: readonly string[]): Promise<VerifiedRepository> {
  const other = where === 'local' ? 'there' : 'local'
  const found = await verify(where)
  expect(keysOf(found)).toEqual(keys)
  expect(found.exitCode).toBe(12)
  for (const { consequence, mend, key } of found.damaged) {
    expect(consequence.text).not.toBe('')
    const isMadeAnew = key.endsWith('/RESTORE.txt')
    expect(mend).toMatchObject({ outcome: 'healable', ...(!isMadeAnew && { repository: other }) })
  }
  const healed = await verify(where, '--repair')
  expect(healed.damaged.filter(({ mend }) => mend.outcome !== 'healed')).toEqual([])
  expect(healed.exitCode).toBe(0)
  return found
}

describe.skipIf(!findPrograms() && !process.env.CI)('a repository with another one beside it', () => {
  beforeAll(async () => {
    lab = await Lab.create({
      repositories: { local: 'local', there: 'local' },
      initdb: ['--wal-segsize=1', '--data-checksums'],
      settings: { wal_keep_size: '1GB' },
      start: false,
    })
    const encryption = await newKey(lab.scratch)
    await lab.writeConfiguration(({ repositories }) => {
      repositories.there!.encryption = encryption
    })
    await lab.cluster.start()
    const folder = await labFolder(join(lab.scratch.path, 'space'))
    await lab.cluster.sql(`CREATE TABLESPACE space LOCATION '${folder}'`)
    await lab.cluster.sql('CREATE DATABASE shop')
    await lab.cluster.sql('CREATE TABLE away TABLESPACE space AS SELECT generate_series(1, 3000) AS n')
    await lab.cluster.sql('CREATE TABLE here AS SELECT generate_series(1, 9000) AS n')
    full = await backUp(lab)
    await lab.cluster.sql('UPDATE here SET n = n + 1 WHERE n < 100')
    incremental = await backUp(lab, ['--type', 'incr'])
    alone = await backUp(lab, ['--standalone'])
    spare = await backUp(lab, ['--standalone'])
    logical = await answerOf<LogicalRecord>(lab, ['backup', '--method', 'logical', '--fingerprint'])
    const first = segmentNumberOf(spare.stop.walFile, SEGMENT) + 1n
    for (let count = 0; count < 4; count++) {
      await lab.cluster.sql('INSERT INTO here SELECT generate_series(1, 5000)')
      await lab.cluster.sql('SELECT pg_switch_wal()')
    }
    segments = [0n, 1n, 2n].map((number) => segmentName(1, first + number, SEGMENT))
    await archived(segments[2]!)
    await archiveBeside()
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('a flipped bit in each kind of object is found, costs what it costs, and is healed', async () => {
    const keys = await oneOfEach('local')
    for (const key of keys) await flip(fileOf('local', key))
    const found = await foundAndHealed('local', keys)
    const shard = costOf(found, await keyOf('local', full, 'shard', 'base'))
    expect(shard.backups).toEqual([full.id, incremental.id])
    expect(shard.text).toContain('cannot be restored, nor the one that builds upon it')
    expect(shard.windows).toHaveLength(1)
    expect(Date.parse(shard.windows[0]!.until)).toBe(Date.parse(alone.stop.time))
    const segment = costOf(found, stored('local', segments[1]!))
    expect(segment.text).toContain('no recovery on timeline 00000001 goes across it')
    expect(segment).toMatchObject({ backups: [], windows: [{ timeline: 1 }] })
    expect(costOf(found, await keyOf('local', full, 'index', undefined, 1)).backups).toEqual([incremental.id])
  })

  test('so is a deleted object', async () => {
    const keys = await oneOfEach('there')
    for (const key of keys) await rm(fileOf('there', key))
    // A label that is gone is not missed: nothing says that it was there. A partial one neither.
    const isMissed = (key: string) =>
      !key.includes('.backup.') && !key.includes('.partial.') && !key.includes('.history.')
    await foundAndHealed('there', keys.filter(isMissed))
  })

  test('and a truncated one', async () => {
    const keys = (await oneOfEach('there')).filter((key) => !/\.(?:backup|partial|history)\./.test(key))
    for (const key of keys) await cut(fileOf('there', key))
    await foundAndHealed('there', keys)
  })

  test('and two that were exchanged', async () => {
    await foundAndHealed('local', await swapped('local'))
  })

  test('so are the two small files that say whose all of it is', async () => {
    for (const key of ['pgrecall.json', 'main/cluster.json']) {
      const whole = await readFile(fileOf('there', key))
      await rm(fileOf('there', key))
      const found = await verify('there')
      expect(found).toMatchObject({ exitCode: 12, damaged: [{ key, reason: 'it is missing' }] })
      expect(await verify('there', '--repair')).toMatchObject({
        exitCode: 0,
        damaged: [{ mend: { outcome: 'healed' } }],
      })
      if (key.endsWith('cluster.json')) expect(await readFile(fileOf('there', key))).toEqual(whole)
    }
  })

  test('what was healed is what was backed up, to the last member, page and record, and can be restored', async () => {
    for (const where of ['local', 'there'] as const)
      expect(await verify(where, '--decode')).toMatchObject({
        exitCode: 0,
        damaged: [],
        undecoded: 0,
        neverBytes: 0,
      })
    const args = [
      '--repository',
      'there',
      '--tablespace',
      `space=${join(lab.scratch.path, 'restored-space')}`,
    ]
    const directory = await restoreTo(lab, 'restored', [incremental.id, ...args])
    await lab.cluster.run('pg_verifybackup', ['-n', directory])
  })

  test('what no repository has is told as lost, and stays what it is', async () => {
    const key = stored('local', segments[1]!)
    const paths = [fileOf('local', key), fileOf('there', stored('there', segments[1]!))]
    const wholes = await Promise.all(paths.map((path) => readFile(path)))
    for (const path of paths) await flip(path)
    const spoiled = await readFile(paths[0]!)
    const found = await verify('local', '--repair')
    expect(found).toMatchObject({ exitCode: 12, damaged: [{ key, mend: { outcome: 'lost' } }] })
    expect(await readFile(paths[0]!)).toEqual(spoiled)
    for (const [index, path] of paths.entries()) await writeFile(path, wholes[index]!)
  })

  test('parts walk through everything, and what is damaged is read again each time', async () => {
    await rm(fileOf('local', 'main/verified.json'))
    const key = await keyOf('local', full, 'shard', 'base')
    const whole = await readFile(fileOf('local', key))
    await flip(fileOf('local', key))
    const seen: number[] = []
    for (let night = 0; night < 6 && seen.at(-1) !== whole.length; night++) {
      const { neverBytes, totalBytes, readBytes } = await verify('local', '--fraction', '40%')
      expect(readBytes).toBeLessThan(totalBytes!)
      seen.push(neverBytes!)
    }
    expect(seen).toEqual(seen.toSorted((a, b) => b - a))
    // All but what is damaged was read and found sound.
    expect(seen.at(-1)).toBe(whole.length)
    expect(await verify('local', '--fraction', '1%')).toMatchObject({ exitCode: 12, damaged: [{ key }] })
    await writeFile(fileOf('local', key), whole)
    expect(await verify('local', '--fraction', '1%')).toMatchObject({ exitCode: 0, neverBytes: 0 })
    const known = await readVerifications(new LocalStorage(fileOf('local', '')), 'main')
    expect(known).toMatchObject({ neverBytes: 0, damaged: [] })
    expect(known!.wal.length).toBeLessThan(12)
  })
})

/** A history and the unfinished end of a timeline, as a promotion leaves them. */
async function archiveBeside(): Promise<void> {
  const folder = await labFolder(join(lab.scratch.path, 'left'))
  const pgWal = join(lab.cluster.dataDirectory, 'pg_wal')
  const left = join(folder, '00000002.history')
  await writeFile(left, '1\t0/7000000\tno recovery target specified\n')
  const partial = join(folder, `${segments[0]}.partial`)
  await writeFile(partial, await readFile(join(pgWal, segments[0]!)))
  for (const path of [left, partial]) {
    await giveToLabUser(path)
    const { exitCode, stderr } = await lab.pgrecall(['wal-push', path])
    if (exitCode !== 0) throw new Error(stderr)
  }
}

/** Waits until the server has archived a segment everywhere. */
async function archived(name: string): Promise<void> {
  const isThere = (where: Where) => existsSync(fileOf(where, stored(where, name)))
  await poll(() => isThere('local') && isThere('there'), { what: `${name} to be archived` })
}

import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { readBackupRecord } from '../../src/catalog/backup-record.ts'
import { debrisOf, loadCatalog, saveCatalog, updateCatalog } from '../../src/catalog/catalog.ts'
import { claimIdentity, markRepository } from '../../src/catalog/identity.ts'
import { walKey } from '../../src/catalog/layout.ts'
import { encodeRecord } from '../../src/catalog/record-file.ts'
import { removeBackup, removeUnfinished } from '../../src/catalog/remove-backup.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { readObject, type Storage } from '../../src/storage/storage.ts'
import { Scratch } from '../lab/scratch.ts'
import {
  increment,
  keysOf,
  MIB,
  range,
  record,
  recordOf,
  SEGMENT,
  storeBackup,
  storeWal,
  summary,
} from './stored.ts'

const FIRST = '20261118T120000Z-full'
const SECOND = '20261119T120000Z-full'
const THIRD = '20261120T120000Z-full'
const NOW = new Date('2026-11-20T13:00:00Z')

let scratch: Scratch
let storage: LocalStorage
let count = 0
beforeAll(async () => {
  scratch = await Scratch.create('catalog')
})
afterAll(() => scratch[Symbol.asyncDispose]())
beforeEach(async () => {
  storage = new LocalStorage(join(scratch.path, `repository-${++count}`))
  for (const [index, id] of [FIRST, SECOND, THIRD].entries()) {
    await storeBackup(storage, record(id, { first: 10 + index * 10 }))
  }
  await storeWal(storage, range(10, 33))
})

const ids = async (options = {}) => (await loadCatalog(storage, 'main', options)).backups.map(({ id }) => id)
const recordKey = (id: string) => `main/backups/${id}/backup.json`

/** With a sum that fits. */
async function putCatalog({ sha256: _sum, ...stored }: Record<string, unknown>): Promise<void> {
  await storage.put('main/catalog.json', encodeRecord(stored))
}

/** With a sum that fits, so that it is what the record says that is refused. */
const encoded = (backup: object) => encodeRecord(backup).toString('utf8')

test('shows the backups, oldest first, and the WAL', async () => {
  await claimIdentity(storage, 'main', { systemIdentifier: '7400000000000000001', walSegmentBytes: SEGMENT })
  const catalog = await loadCatalog(storage, 'main')
  expect(catalog).toMatchObject({
    cluster: 'main',
    systemIdentifier: '7400000000000000001',
    walSegmentBytes: SEGMENT,
    backups: [summary(FIRST, { first: 10 }), summary(SECOND, { first: 20 }), summary(THIRD, { first: 30 })],
    wal: [{ timeline: 1, ranges: [{ segments: 24 }] }],
    damaged: [],
  })
  expect(catalog.backups[0]).not.toHaveProperty('objects')
})

test('is empty where nothing was stored, and an error where no repository is: the folder may not be mounted', async () => {
  await expect(loadCatalog(storage, 'other')).rejects.toMatchObject({ kind: 'repository' })
  await markRepository(storage)
  expect(await loadCatalog(storage, 'other')).toEqual({
    cluster: 'other',
    systemIdentifier: undefined,
    walSegmentBytes: SEGMENT,
    backups: [],
    logical: [],
    wal: [],
    damaged: [],
  })
})

describe('catalog.json only makes it faster', () => {
  test('with it, records are not read again; without it, the result is the same', async () => {
    const without = await loadCatalog(storage, 'main')
    await saveCatalog(storage, without, NOW)
    const read: string[] = []
    const observed = Object.assign(Object.create(storage) as Storage, {
      get: (key: string, options: object) => {
        read.push(key)
        return storage.get(key, options)
      },
      stat: (key: string) => storage.stat(key),
      list: (prefix: string) => storage.list(prefix),
      folders: (prefix: string) => storage.folders(prefix),
    })
    expect(await loadCatalog(observed, 'main')).toEqual(without)
    expect(read.filter((key) => key.endsWith('backup.json'))).toEqual([])
    expect(await loadCatalog(observed, 'main', { fresh: true })).toEqual(without)
    expect(read.filter((key) => key.endsWith('backup.json'))).toHaveLength(3)
  })

  test.each([
    '',
    '{',
    'null',
    '{"format": 2, "backups": []}',
    '{"format": 1, "backups": [{"id": "x"}]}',
    '{"format": 1}',
  ])('damaged it is ignored: %j', async (text) => {
    await storage.put('main/catalog.json', Buffer.from(text))
    expect(await ids()).toEqual([FIRST, SECOND, THIRD])
  })

  test('outdated it shows neither a backup that is gone nor hides one that is new', async () => {
    await saveCatalog(storage, await loadCatalog(storage, 'main'), NOW)
    await removeBackup(storage, 'main', FIRST)
    await storeBackup(storage, record('20261121T120000Z-full', { first: 32 }))
    await storeWal(storage, [34])
    const catalog = await loadCatalog(storage, 'main')
    expect(catalog.backups.map(({ id }) => id)).toEqual([SECOND, THIRD, '20261121T120000Z-full'])
    expect(catalog.wal[0]!.ranges[0]!.segments).toBe(25)
  })

  test('outdated it does not show a backup whose removal has begun', async () => {
    await saveCatalog(storage, await loadCatalog(storage, 'main'), NOW)
    await storage.remove(recordKey(SECOND))
    expect(await ids()).toEqual([FIRST, THIRD])
  })

  test('it tells what builds upon what; one that is older than that is read as before', async () => {
    await saveCatalog(storage, await loadCatalog(storage, 'main'), NOW)
    const older = (await loadCatalog(storage, 'main', { believing: true })).backups
    expect(older).toHaveLength(3)
    const last = increment('20261121T120000Z-incr', older.at(-1)!, { first: 31 })
    const synth = summary('20261121T120000Z-synth', { first: 31, consolidatedFrom: [THIRD, last.id] })
    for (const backup of [last, synth]) await storeBackup(storage, recordOf(backup))
    await updateCatalog(storage, 'main', NOW)
    const stored = JSON.parse(String(await readObject(storage, 'main/catalog.json')))
    expect(stored.backups.slice(3)).toMatchObject([
      { type: 'incr', parent: { id: THIRD }, increment: last.increment, clusterBytes: 300 },
      { type: 'full', consolidatedFrom: [THIRD, last.id] },
    ])
    expect((await loadCatalog(storage, 'main', { believing: true })).backups).toEqual([...older, last, synth])
  })

  test('it is valid JSON with a date, for people and their programs', async () => {
    await saveCatalog(storage, await loadCatalog(storage, 'main'), NOW)
    const stored = JSON.parse(String(await readObject(storage, 'main/catalog.json')))
    expect(stored).toMatchObject({ format: 1, updatedAt: NOW.toISOString(), cluster: 'main' })
    expect(stored.backups).toHaveLength(3)
  })
})

describe('records that catalog.json tells', () => {
  const tamper = async (
    change: (stored: { [key: string]: unknown; backups: { stop: object }[] }) => void,
  ) => {
    const stored = JSON.parse(String(await readObject(storage, 'main/catalog.json')))
    change(stored)
    await putCatalog(stored)
  }
  const stopOf = async (options: Parameters<typeof loadCatalog>[2]) =>
    (await loadCatalog(storage, 'main', options)).backups[0]!.stop.lsn
  beforeEach(async () => void (await updateCatalog(storage, 'main', NOW)))

  test('are not believed by who reads them fresh', async () => {
    await tamper(({ backups }) => Object.assign(backups[0]!.stop, { lsn: '0/1' }))
    expect(await stopOf({})).toBe('0/1')
    expect(await stopOf({ fresh: true })).toBe(summary(FIRST, { first: 10 }).stop.lsn)
  })

  test.each([
    ['cluster', 'other'],
    ['systemIdentifier', '7400000000000000002'],
  ])('are not believed where they are of another %s', async (key, value) => {
    await tamper((stored) => {
      Object.assign(stored.backups[0]!.stop, { lsn: '0/1' })
      stored[key] = value
    })
    expect(await stopOf({ believing: true })).toBe(summary(FIRST, { first: 10 }).stop.lsn)
  })
})

describe('WAL that catalog.json knows', () => {
  const segments = async (options: Parameters<typeof loadCatalog>[2]) =>
    (await loadCatalog(storage, 'main', options)).wal[0]!.ranges.reduce((sum, run) => sum + run.segments, 0)
  beforeEach(async () => {
    await updateCatalog(storage, 'main', NOW)
    // Somebody takes one out of the middle, which no look at the ends notices.
    await storage.remove(walKey('main', segmentName(1, 20n, SEGMENT)))
  })

  test('is not believed where it is its turn to be listed, and by whoever does not say so', async () => {
    expect(await segments({ believing: true })).toBe(23)
    expect(await segments({})).toBe(23)
    expect(await segments({ fresh: true })).toBe(23)
  })

  test.each([
    [
      'runs that overlap',
      {
        ranges: [
          [10, 33],
          [20, 40],
        ],
      },
    ],
    ['runs of another timeline', { timeline: 2 }],
    ['a number that does not fit', { segments: 7 }],
    ['segments of another size', { walSegmentBytes: MIB }],
    ['no name at all', { first: 'x' }],
  ])('is not believed with %s', async (_what, change: Record<string, unknown>) => {
    const stored = JSON.parse(String(await readObject(storage, 'main/catalog.json')))
    const { ranges, timeline, walSegmentBytes, ...run } = change
    if (timeline) stored.wal[0].timeline = timeline
    if (walSegmentBytes) stored.walSegmentBytes = walSegmentBytes
    Object.assign(stored.wal[0].ranges[0], run)
    if (ranges) {
      stored.wal[0].ranges = (ranges as [number, number][]).map(([first, last]) => ({
        ...stored.wal[0].ranges[0],
        first: segmentName(1, BigInt(first), SEGMENT),
        last: segmentName(1, BigInt(last), SEGMENT),
        segments: last - first + 1,
      }))
    }
    await putCatalog(stored)
    expect(await segments({ believing: true })).toBe(23)
  })

  test('is kept with the backups that begin in it, and with its gaps', async () => {
    await updateCatalog(storage, 'main', NOW)
    const stored = JSON.parse(String(await readObject(storage, 'main/catalog.json')))
    expect(stored.wal[0].ranges.map(({ backups }: { backups: string[] }) => backups)).toEqual([
      [FIRST],
      [THIRD],
    ])
    expect(stored.gaps).toEqual([
      { timeline: 1, first: segmentName(1, 20n, SEGMENT), last: segmentName(1, 20n, SEGMENT), segments: 1 },
    ])
  })
})

describe('a record that cannot be believed', () => {
  test.each([
    ['is cut off', '{"format": 1, "id"'],
    ['is empty', ''],
    ['is of a later format', encoded({ ...record(SECOND), format: 2 })],
    ['belongs to another backup', encoded(record(FIRST))],
    ['has an LSN that is none', encoded({ ...record(SECOND), stop: { ...record(SECOND).stop, lsn: '12' } })],
    ['lacks a key', encoded({ ...record(SECOND), objects: undefined })],
    [
      'names an object outside its folder',
      encoded({
        ...record(SECOND),
        objects: [{ name: '../../x', kind: 'shard', bytes: 1, sha256: 'a'.repeat(64) }],
      }),
    ],
  ])('as it %s is told, and hides no other backup', async (_what, text) => {
    await storage.put(recordKey(SECOND), Buffer.from(text))
    const catalog = await loadCatalog(storage, 'main')
    expect(catalog.backups.map(({ id }) => id)).toEqual([FIRST, THIRD])
    expect(catalog.damaged).toEqual([
      {
        id: SECOND,
        reason: expect.stringContaining(`${storage.location}/${recordKey(SECOND)} cannot be read: `),
      },
    ])
    await expect(readBackupRecord(storage, 'main', SECOND)).rejects.toMatchObject({ kind: 'damaged' })
    expect(await debrisOf(storage, 'main')).toEqual([])
  })

  test('is never saved as if it were not there', async () => {
    await storage.put(recordKey(SECOND), Buffer.from('{'))
    await saveCatalog(storage, await loadCatalog(storage, 'main'), NOW)
    expect((await loadCatalog(storage, 'main')).damaged).toHaveLength(1)
  })
})

test('a folder without a record is debris: not listed, and removed with all that is in it', async () => {
  const id = '20261121T000000Z-full'
  await storage.put(`main/backups/${id}/base.0001.tar.zst`, Buffer.alloc(7))
  await storage.put(`main/backups/${id}/base.0002.tar.zst`, Buffer.alloc(5))
  expect(await ids()).toEqual([FIRST, SECOND, THIRD])
  expect(await readBackupRecord(storage, 'main', id)).toBeUndefined()
  expect(await debrisOf(storage, 'main')).toEqual([id])
  expect(await removeBackup(storage, 'main', id)).toEqual({ bytes: 12 })
  expect(await debrisOf(storage, 'main')).toEqual([])
  expect((await keysOf(storage, 'main/backups/')).some((key) => key.includes(id))).toBe(false)
})

test('what is taken for unfinished is left alone when its record is there after all', async () => {
  expect(await removeUnfinished(storage, 'main', FIRST)).toEqual({ bytes: 0 })
  expect(await ids()).toEqual([FIRST, SECOND, THIRD])
})

test('a backup that retention takes out of the catalog, while somebody looks, is not put back by him', async () => {
  // Enough, so that the oldest is one that is only believed.
  for (let hour = 1; hour <= 20; hour++) {
    await storeBackup(storage, record(`20261120T13${String(hour).padStart(2, '0')}00Z-full`, { first: 30 }))
  }
  const before = await updateCatalog(storage, 'main', NOW)
  const kept = { ...before, backups: before.backups.filter(({ id }) => id !== FIRST) }
  const slow = interrupting(storage, 'main/catalog.json', async () => {
    await saveCatalog(storage, kept, NOW)
    // Locked objects, or a retention that was killed, leave the folder.
    await storage.remove(recordKey(FIRST))
  })
  await updateCatalog(slow, 'main', NOW)
  expect(await ids({ believing: true })).not.toContain(FIRST)
})

/** A storage in which something happens right after an object was read for the first time. */
function interrupting(inner: Storage, key: string, happen: () => Promise<void>): Storage {
  let isOver = false
  return new Proxy(inner, {
    get: (target, name) => {
      if (name !== 'get')
        return Reflect.get(target, name, target).bind?.(target) ?? Reflect.get(target, name, target)
      return async (...asked: Parameters<Storage['get']>) => {
        const chunks = await target.get(...asked)
        if (asked[0] !== key || isOver) return chunks
        isOver = true
        const read = await Array.fromAsync(chunks ?? [])
        await happen()
        return (async function* () {
          yield* read
        })()
      }
    },
  })
}

test('a folder that does not bear the name of a backup is neither a backup nor debris', async () => {
  await storage.put('main/backups/kept-by-hand/base.tar.zst', Buffer.alloc(1))
  await storage.put(`main/backups/${FIRST}.old/backup.json`, encodeRecord(record(FIRST)))
  expect(await ids()).toEqual([FIRST, SECOND, THIRD])
  expect(await debrisOf(storage, 'main')).toEqual([])
})

test('a backup stops to exist with the first object that its removal takes', async () => {
  // Its name sorts before the record's.
  await storage.put(`main/backups/${FIRST}/16390.0001.tar.zst`, Buffer.alloc(1))
  const removed: string[] = []
  const dying = Object.assign(Object.create(storage) as Storage, {
    list: (prefix: string) => storage.list(prefix),
    remove: async (key: string) => {
      if (removed.length === 1) throw new Error('killed')
      removed.push(key)
      await storage.remove(key)
    },
  })
  await expect(removeBackup(dying, 'main', FIRST)).rejects.toThrow('killed')
  expect(removed).toEqual([recordKey(FIRST)])
  expect(await ids()).toEqual([SECOND, THIRD])
  expect(await debrisOf(storage, 'main')).toEqual([FIRST])
})

test('only the id of a backup is looked up', async () => {
  expect(await readBackupRecord(storage, 'main', '../main/backups/x')).toBeUndefined()
})

test('without cluster.json the segments have the size that the backups tell', async () => {
  const other = new LocalStorage(join(scratch.path, `repository-${++count}`))
  await storeBackup(other, record(FIRST, { first: 4090, walSegmentBytes: MIB }))
  await storeWal(other, range(4090, 4100), { segmentBytes: MIB })
  const catalog = await loadCatalog(other, 'main')
  expect(catalog.walSegmentBytes).toBe(MIB)
  expect(catalog.wal[0]!.ranges).toHaveLength(1)
})

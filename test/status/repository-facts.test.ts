import { beforeEach, expect, test } from 'vitest'
import { loadCatalog } from '../../src/catalog/catalog.ts'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { receivingKey, walKey } from '../../src/catalog/layout.ts'
import { noteThinnedWal } from '../../src/catalog/thinned-wal.ts'
import { nothingVerified, updateVerifications } from '../../src/catalog/verification-file.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { judgeRepository } from '../../src/status/judge.ts'
import { repositoryFacts } from '../../src/status/repository-facts.ts'
import { encodeWalFile } from '../../src/wal/stored-file.ts'
import { CountingStorage } from '../catalog/counting-storage.ts'
import {
  increment,
  logicalRecord,
  range,
  record,
  recordOf,
  SEGMENT,
  storeBackup,
  storeLogical,
  storeWal,
} from '../catalog/stored.ts'
import { plainRepository } from '../lab/repositories.ts'
import { serverFacts } from './facts.ts'

const name = (number: number, timeline = 1) => segmentName(timeline, BigInt(number), SEGMENT)
const ID = '20261120T120000Z-full'

let storage: CountingStorage
beforeEach(async () => {
  storage = new CountingStorage()
  await claimIdentity(storage, 'main', { systemIdentifier: '7', walSegmentBytes: SEGMENT })
})
/** Where the server writes is segment 20. */
async function facts() {
  return repositoryFacts(await loadCatalog(storage, 'main'), {
    repository: plainRepository('local', storage),
    server: serverFacts({ lsn: '0/14000100' }),
    now: new Date('2026-11-20T14:00:00Z'),
    signal: new AbortController().signal,
  })
}

test('of two gaps on the way the first one ends the window, and the second is told as what it is', async () => {
  await storeBackup(storage, record(ID, { first: 10 }))
  await storeWal(storage, [...range(1, 3), ...range(5, 12), ...range(14, 15), 17])
  const { gaps, windows } = await facts()
  expect(windows).toMatchObject([{ cutBy: name(13) }])
  expect(gaps.map(({ first, isBehindAnother, cuts }) => [first, isBehindAnother, cuts.length])).toEqual([
    [name(4), false, 0],
    [name(13), false, 1],
    [name(16), true, 0],
  ])
})

test('a segment that is received behind a hole cuts the window before it, and is not behind the server', async () => {
  await storeBackup(storage, record(ID, { first: 10 }))
  await storeWal(storage, range(10, 12))
  await storage.put(receivingKey('main', name(20)), Buffer.alloc(7))
  const { gaps, windows, receiving, archived } = await facts()
  expect(receiving).toMatchObject({ segment: name(20), storedBytes: 7 })
  expect(windows).toMatchObject([{ cutBy: name(13), backups: [ID] }])
  expect(gaps).toMatchObject([{ first: name(13), last: name(19), segments: 7, cuts: [{ backups: [ID] }] }])
  expect(gaps[0]!.ageSeconds).toBeGreaterThan(3600)
  expect(archived).toMatchObject({ lastSegment: name(12), behindSegments: 0 })
})

test('a window begins with the first backup that is not known to be damaged, and without one there is none', async () => {
  const [first, second] = [record(ID, { first: 10 }), record('20261120T130000Z-full', { first: 14 })]
  await storeBackup(storage, first)
  await storeBackup(storage, second)
  await storeWal(storage, range(10, 18))
  const find = async (...backups: string[]) => {
    const damaged = backups.map((id) => ({
      key: `main/backups/${id}/base.0001.tar.zst`,
      reason: 'it is cut off',
      foundAt: '2026-11-20T13:30:00Z',
    }))
    await updateVerifications(storage, 'main', () => ({
      ...nothingVerified('main', '2026-11-20T13:30:00Z'),
      damaged,
    }))
    const { windows, unusable } = await facts()
    return { windows: windows.map(({ backups: those }) => those), unusable }
  }
  const lost = (id: string) => ({
    id,
    missing: `main/backups/${id}/base.0001.tar.zst`,
    reason: 'it is cut off',
  })
  expect(await find(first.id)).toEqual({ windows: [[second.id]], unusable: [lost(first.id)] })
  expect(await find(first.id, second.id)).toEqual({
    windows: [],
    unusable: [lost(first.id), lost(second.id)],
  })
})

test('a history that is missing, and one that is damaged, are lost', async () => {
  await storeWal(storage, range(10, 12), { timeline: 2 })
  await storeWal(storage, range(10, 12), { timeline: 3 })
  await storage.put(walKey('main', '00000003.history'), Buffer.from('nonsense'))
  const { lostHistories, windows } = await facts()
  expect(lostHistories).toEqual([
    { timeline: 2, file: '00000002.history', isDamaged: false },
    { timeline: 3, file: '00000003.history', isDamaged: true },
  ])
  expect(windows).toEqual([])
})

test('a window that only the backup itself fills ends at its end', async () => {
  const backup = record(ID, { first: 10 })
  await storeBackup(storage, backup)
  await storeWal(storage, [10])
  expect((await facts()).windows[0]!.to).toMatchObject({ lsn: backup.stop.lsn, time: backup.stop.time })
})

test('the newest backup, and the newest full one', async () => {
  const full = record(ID, { first: 10 })
  await storeBackup(storage, full)
  await storeBackup(storage, recordOf(increment('20261120T130000Z-incr', full, { first: 11 })))
  await storeWal(storage, range(10, 12))
  const { newestBackup, newestFull, windows } = await facts()
  expect(newestBackup).toMatchObject({ id: '20261120T130000Z-incr', ageSeconds: 3570 })
  expect(newestFull).toMatchObject({ id: ID, ageSeconds: 7170 })
  expect(windows).toMatchObject([{ backups: [ID, '20261120T130000Z-incr'] }])
})

test('a logical backup is the newest of its own kind, and has no part in windows', async () => {
  await storeBackup(storage, record(ID, { first: 10 }))
  await storeWal(storage, range(10, 12))
  const before = await facts()
  expect(before.newestLogical).toBeNull()
  await storeLogical(storage, logicalRecord('20261120T130000Z-logical'))
  await storeLogical(storage, logicalRecord('20261120T133000Z-logical', { selection: { tables: ['t'] } }))
  const { newestLogical, stored, growth, ...others } = await facts()
  expect(newestLogical).toMatchObject({ id: '20261120T130000Z-logical', ageSeconds: 3600 })
  expect(stored).toMatchObject({ backups: 1, logical: 2 })
  expect(growth).toMatchObject({ backupBytesPerDay: before.growth!.backupBytesPerDay })
  expect({ ...before, ...others }).toEqual(before)
})

test('WAL that retention let go cuts no window: what was kept of it is told as the end of its backup', async () => {
  const old = record('20261101T120000Z-full', { first: 5 })
  await storeBackup(storage, old)
  await storeBackup(storage, record(ID, { first: 10 }))
  // The second timeline was left again; the first one's WAL behind the backup is gone.
  const promoted = record('20261102T120000Z-full', { first: 7, timeline: 2 })
  await storeBackup(storage, promoted)
  await storage.put(
    walKey('main', '00000002.history'),
    encodeWalFile(Buffer.from('1\t0/6800000\tx\n'), 1).object,
  )
  await storeWal(storage, [5, ...range(10, 12), ...range(14, 20)])
  await storeWal(storage, [7, 9], { timeline: 2 })
  await noteThinnedWal(storage, 'main', [
    { timeline: 1, before: name(10) },
    { timeline: 2, before: name(9, 2) },
  ])
  const found = await facts()
  expect(found.windows.map(({ backups, cutBy, isThinned }) => [backups, cutBy, isThinned])).toEqual([
    [[old.id], null, true],
    [[ID], name(13), undefined],
    [[old.id], null, true],
    [[promoted.id], null, true],
  ])
  expect(found.windows[0]!.to).toEqual({ time: old.stop.time, lsn: old.stop.lsn, isExact: true })
  expect(found.gaps.map(({ first, last }) => [first, last])).toEqual([[name(13), name(13)]])
  const told = judgeRepository(found, serverFacts()).filter(({ text }) => text.includes('by its rule'))
  expect(told).toEqual([
    {
      severity: 'ok',
      subject: 'WAL',
      text: 'retention has let WAL go, by its rule "wal": 2 older backups can be restored to their ends only',
    },
  ])
})

test('of very many windows only the newest are looked into; the others are told as far as the catalog knows', async () => {
  const firsts = range(1, 12).map((index) => 10 * index)
  for (const first of firsts) {
    await storeBackup(storage, record(`202611${first / 10 + 10}T120000Z-full`, { first }))
    await storeWal(storage, range(first, first + 2))
  }
  storage.forget()
  const { windows } = await facts()
  expect(windows).toHaveLength(12)
  expect(windows.map(({ to }) => to.isExact)).not.toContain(true)
  const read = new Set(storage.reads.flatMap((key) => /([0-9A-F]{24})\.zst$/.exec(key)?.[1] ?? []))
  const newest = new Set(
    firsts.slice(-8).flatMap((first) => range(first, first + 2).map((number) => name(number))),
  )
  expect(read.size).toBeGreaterThanOrEqual(8)
  expect([...read].filter((segment) => !newest.has(segment))).toEqual([])
})

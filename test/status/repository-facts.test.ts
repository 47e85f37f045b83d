import { beforeEach, expect, test } from 'vitest'
import { loadCatalog } from '../../src/catalog/catalog.ts'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { receivingKey, walKey } from '../../src/catalog/layout.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { repositoryFacts } from '../../src/status/repository-facts.ts'
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

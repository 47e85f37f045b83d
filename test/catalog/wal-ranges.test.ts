import { describe, expect, test } from 'vitest'
import { archivedWal } from '../../src/catalog/archived-wal.ts'
import { walKey } from '../../src/catalog/layout.ts'
import { reachFrom, segmentNumberOf, type TimelineWal, walGaps } from '../../src/catalog/wal-ranges.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { CountingStorage } from './counting-storage.ts'
import { MIB, range, SEGMENT } from './stored.ts'

const name = (number: number, timeline = 1, segmentBytes = SEGMENT) =>
  segmentName(timeline, BigInt(number), segmentBytes)
const runs = (wal: TimelineWal | undefined) =>
  wal?.ranges.map(({ first, last, segments }) => [first, last, segments])

/** Stores them in the order of their keys, each a second after the one before. */
async function timelines(names: string[], segmentBytes = SEGMENT): Promise<TimelineWal[]> {
  const storage = new CountingStorage()
  const keys = names.map((file) => (file.includes('/') ? file : walKey('main', file))).toSorted()
  for (const key of keys) await storage.put(key, Buffer.alloc(10))
  return archivedWal({ storage, cluster: 'main', segmentBytes })
}

test('nothing stored is no timeline', async () => {
  expect(await timelines([])).toEqual([])
})

test('segments without a hole are one run, over the borders of 4 GiB too', async () => {
  const [wal, ...others] = await timelines(range(250, 520).map((number) => name(number)))
  expect(others).toEqual([])
  expect(wal).toEqual({
    timeline: 1,
    hasHistory: false,
    ranges: [
      {
        first: name(250),
        last: name(520),
        segments: 271,
        storedBytes: 2710,
        firstStoredAt: '2026-11-20T12:00:01.000Z',
        newestStoredAt: '2026-11-20T12:04:31.000Z',
      },
    ],
  })
})

test.each([1, 64, 1024])('also with segments of %d MiB', async (mebibytes) => {
  const perLog = 4096 / mebibytes
  const numbers = range(perLog - 2, perLog + 2)
  const names = numbers.map((number) => name(number, 1, mebibytes * MIB))
  const [wal] = await timelines(names, mebibytes * MIB)
  expect(runs(wal)).toEqual([[names[0], names.at(-1), 5]])
})

test('a hole parts two runs, and is told with its first and last segment', async () => {
  const wal = await timelines(
    [...range(1, 3), 5, ...range(254, 257), ...range(300, 301)].map((number) => name(number)),
  )
  expect(runs(wal[0])).toEqual([
    [name(1), name(3), 3],
    [name(5), name(5), 1],
    [name(254), name(257), 4],
    [name(300), name(301), 2],
  ])
  expect(walGaps(wal, SEGMENT)).toEqual([
    { timeline: 1, first: name(4), last: name(4), segments: 1 },
    { timeline: 1, first: name(6), last: name(253), segments: 248 },
    { timeline: 1, first: name(258), last: name(299), segments: 42 },
  ])
})

test('timelines are apart, though their segments follow on each other', async () => {
  const wal = await timelines([name(1), name(2), name(3, 2), name(4, 2), name(2, 3)])
  expect(wal.map(({ timeline }) => timeline)).toEqual([1, 2, 3])
  expect(wal.map(runs)).toEqual([
    [[name(1), name(2), 2]],
    [[name(3, 2), name(4, 2), 2]],
    [[name(2, 3), name(2, 3), 1]],
  ])
  expect(walGaps(wal, SEGMENT)).toEqual([])
})

test('timelines are in the order of their numbers', async () => {
  const wal = await timelines([name(1, 0x10), name(1, 2), name(1, 9), name(1, 0xa)])
  expect(wal.map(({ timeline }) => timeline)).toEqual([2, 9, 10, 16])
})

test('histories, backup labels and partial segments do not part or lengthen a run', async () => {
  const [first, second] = await timelines([
    name(1, 2),
    name(2, 2),
    `${name(2, 2)}.00000028.backup`,
    name(3, 2),
    `${name(4, 2)}.partial`,
    '00000002.history',
    '00000003.history',
  ])
  expect(runs(first)).toEqual([[name(1, 2), name(3, 2), 3]])
  expect(first).toMatchObject({ hasHistory: true, partial: `${name(4, 2)}.partial` })
  expect(second).toEqual({ timeline: 3, hasHistory: true, ranges: [] })
})

test('what is no WAL is passed over', async () => {
  const wal = await timelines([
    name(1),
    'main/wal/00000001/notes.txt',
    'main/wal/00000001/00000000/x.zst',
    name(2),
  ])
  expect(wal.map(runs)).toEqual([[[name(1), name(2), 2]]])
})

describe('the reach from a segment', () => {
  test('is the end of the run that holds it', async () => {
    const [wal] = await timelines([...range(5, 9), ...range(20, 22)].map((number) => name(number)))
    const reach = (from: number) => reachFrom(wal, BigInt(from), SEGMENT)
    expect([4, 5, 7, 9, 10, 19, 20, 22, 23].map(reach)).toEqual([
      undefined,
      9n,
      9n,
      9n,
      undefined,
      undefined,
      22n,
      22n,
      undefined,
    ])
    expect(reachFrom(undefined, 5n, SEGMENT)).toBeUndefined()
  })
})

test('only a whole segment has a number', () => {
  expect(segmentNumberOf(name(300), SEGMENT)).toBe(300n)
  for (const other of ['00000002.history', `${name(1)}.partial`, 'x']) {
    expect(() => segmentNumberOf(other, SEGMENT)).toThrow(TypeError)
  }
})

import { expect, test } from 'vitest'
import type { TimelineWal } from '../../src/catalog/wal-ranges.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { missingWal } from '../../src/verification/missing-wal.ts'

const MIB = 1024 * 1024
const STORED_AT = '2026-11-20T10:00:00.000Z'
const HOLED: [number, number][] = [
  [2, 4],
  [8, 9],
]
const named = (number: number) => segmentName(1, BigInt(number), 16 * MIB)

function timeline(ranges: [number, number][], thinnedBefore?: number): TimelineWal {
  return {
    timeline: 1,
    ranges: ranges.map(([first, last]) => ({
      ...{ first: named(first), last: named(last), segments: last - first + 1, storedBytes: MIB },
      ...{ firstStoredAt: STORED_AT, newestStoredAt: STORED_AT },
    })),
    hasHistory: false,
    ...(thinnedBefore !== undefined && { thinnedBefore: named(thinnedBefore) }),
  }
}

const missingIn = (wal: TimelineWal, known: [number, number][] = []) =>
  missingWal({
    timelines: [wal],
    segmentBytes: 16 * MIB,
    backups: [],
    isAll: true,
    known: known.map(([first, last]) => ({
      timeline: 1,
      first: BigInt(first),
      last: BigInt(last),
      at: STORED_AT,
    })),
  }).map(({ first, last }) => [Number(first), Number(last)])

test('a hole is missing, unless retention has noted that it let that go', () => {
  expect(missingIn(timeline(HOLED))).toEqual([[5, 7]])
  expect(missingIn(timeline(HOLED, 8))).toEqual([])
})

test('of a hole that goes on behind what was let go, that part is missing', () => {
  expect(missingIn(timeline(HOLED, 6))).toEqual([[6, 7]])
})

test('what was verified once behind the end is missing, unless it was let go', () => {
  expect(missingIn(timeline([[2, 4]]), [[2, 9]])).toEqual([[5, 9]])
  expect(missingIn(timeline([[2, 4]], 8), [[2, 9]])).toEqual([[8, 9]])
  expect(missingIn(timeline([[2, 4]], 12), [[2, 9]])).toEqual([])
})

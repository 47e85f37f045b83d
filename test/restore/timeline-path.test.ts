import { describe, expect, test } from 'vitest'
import type { TimelineWal } from '../../src/catalog/wal-ranges.ts'
import { parseHistory, type TimelineHistory } from '../../src/postgres/timeline-history.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { isOnPath, reachAlong, segmentsUntil } from '../../src/restore/timeline-path.ts'
import { SEGMENT } from '../catalog/stored.ts'

const at = (segment: number, offset = 0) => BigInt(segment) * BigInt(SEGMENT) + BigInt(offset)
const name = (timeline: number, segment: number) => segmentName(timeline, BigInt(segment), SEGMENT)
const lsnText = (position: bigint) =>
  `${(position >> 32n).toString(16)}/${(position & 0xffffffffn).toString(16)}`

/** What is stored: runs of segments by timeline. */
function stored(runs: Record<number, [number, number][]>): TimelineWal[] {
  return Object.entries(runs).map(([timeline, ranges]) => ({
    timeline: Number(timeline),
    hasHistory: timeline !== '1',
    ranges: ranges.map(([first, last]) => ({
      first: name(Number(timeline), first),
      last: name(Number(timeline), last),
      segments: last - first + 1,
      storedBytes: 1,
      firstStoredAt: '',
      newestStoredAt: '',
    })),
  }))
}

const ONE = parseHistory('', 1)
/** Timeline 2 leaves 1 in the middle of segment 20; timeline 3 leaves 2 in the middle of segment 30. */
const SWITCH = at(20, 0x5000)
const TWO = parseHistory(`1\t${lsnText(SWITCH)}\tpromoted\n`, 2)
const THREE = parseHistory(`1\t${lsnText(SWITCH)}\tx\n2\t${lsnText(at(30, 0x100))}\tx\n`, 3)

const reach = (path: TimelineHistory, start: bigint, runs: Parameters<typeof stored>[0]) => {
  const { legs, ...rest } = reachAlong(path, start, stored(runs), SEGMENT)
  return { legs: legs.map(({ timeline, first, last }) => [timeline, Number(first), Number(last)]), ...rest }
}

describe('on one timeline', () => {
  test('the WAL reaches to the end of the run', () => {
    expect(reach(ONE, at(10, 0x28), { 1: [[5, 25]] })).toEqual({
      legs: [[1, 10, 25]],
      end: at(26),
      gap: undefined,
    })
  })

  test('a hole ends it, and is named when later WAL is stored', () => {
    expect(
      reach(ONE, at(10), {
        1: [
          [5, 12],
          [14, 25],
        ],
      }),
    ).toEqual({ legs: [[1, 10, 12]], end: at(13), gap: name(1, 13) })
  })

  test('a segment that is being received extends the run that it follows, and lies behind a hole otherwise', () => {
    const reachWith = (receiving: number) => {
      const [wal] = stored({ 1: [[5, 25]] })
      const growing = { segment: name(1, receiving), storedBytes: 1, storedAt: '' }
      return reachAlong(ONE, at(10), [{ ...wal!, receiving: growing }], SEGMENT)
    }
    expect(reachWith(26)).toEqual({
      legs: [{ timeline: 1, first: 10n, last: 26n }],
      end: at(27),
      gap: undefined,
      isGrowing: true,
    })
    expect(reachWith(28)).toEqual({
      legs: [{ timeline: 1, first: 10n, last: 25n }],
      end: at(26),
      gap: name(1, 26),
    })
  })

  test('nothing is reached where the first segment is missing', () => {
    expect(reach(ONE, at(10), { 1: [[5, 9]] })).toEqual({ legs: [], end: at(10), gap: undefined })
    expect(reach(ONE, at(10), { 1: [[11, 15]] })).toEqual({ legs: [], end: at(10), gap: name(1, 10) })
    expect(reach(ONE, at(10), {})).toEqual({ legs: [], end: at(10), gap: undefined })
  })
})

describe('over a switch', () => {
  test('the segment of the switch is read from the new timeline', () => {
    expect(reach(TWO, at(10), { 1: [[5, 20]], 2: [[20, 25]] })).toEqual({
      legs: [
        [1, 10, 19],
        [2, 20, 25],
      ],
      end: at(26),
      gap: undefined,
    })
  })

  test('also when the old timeline went on and archived more', () => {
    expect(reach(TWO, at(10), { 1: [[5, 40]], 2: [[20, 25]] }).legs).toEqual([
      [1, 10, 19],
      [2, 20, 25],
    ])
  })

  test('also when the old timeline has no copy of it', () => {
    expect(reach(TWO, at(10), { 1: [[5, 19]], 2: [[20, 25]] })).toMatchObject({ end: at(26), gap: undefined })
  })

  test('a hole before it is found on the old timeline', () => {
    expect(
      reach(TWO, at(10), {
        1: [
          [5, 15],
          [17, 20],
        ],
        2: [[20, 25]],
      }),
    ).toEqual({
      legs: [[1, 10, 15]],
      end: at(16),
      gap: name(1, 16),
    })
  })

  test('while the new timeline has nothing archived yet, the old copy leads up to the switch', () => {
    expect(reach(TWO, at(10), { 1: [[5, 20]] })).toEqual({
      legs: [
        [1, 10, 19],
        [1, 20, 20],
      ],
      end: SWITCH,
      gap: undefined,
    })
  })

  test('a hole at the beginning of the new timeline is a hole, whatever the old one has', () => {
    for (const last of [19, 20]) {
      expect(reach(TWO, at(10), { 1: [[5, last]], 2: [[22, 25]] })).toEqual({
        legs: [[1, 10, 19]],
        end: at(20),
        gap: name(2, 20),
      })
    }
  })

  test('exactly on the border of a segment nothing is read twice', () => {
    const path = parseHistory(`1\t${lsnText(at(20))}\tx\n`, 2)
    expect(reach(path, at(10), { 1: [[5, 20]], 2: [[20, 25]] }).legs).toEqual([
      [1, 10, 19],
      [2, 20, 25],
    ])
  })

  test('in the very segment where the backup begins, all is read from the new timeline', () => {
    expect(reach(TWO, at(20, 0x28), { 1: [[5, 20]], 2: [[20, 25]] })).toEqual({
      legs: [[2, 20, 25]],
      end: at(26),
      gap: undefined,
    })
  })

  test('several are followed one after another', () => {
    expect(reach(THREE, at(10), { 1: [[5, 20]], 2: [[20, 30]], 3: [[30, 33]] })).toEqual({
      legs: [
        [1, 10, 19],
        [2, 20, 29],
        [3, 30, 33],
      ],
      end: at(34),
      gap: undefined,
    })
  })

  test('two in the same segment are followed', () => {
    const path = parseHistory(`1\t${lsnText(at(20, 0x100))}\tx\n2\t${lsnText(at(20, 0x200))}\tx\n`, 3)
    expect(reach(path, at(10), { 1: [[5, 20]], 2: [[20, 20]], 3: [[20, 22]] })).toMatchObject({
      end: at(23),
      gap: undefined,
    })
  })

  test('stretches that end before the backup begins do not count', () => {
    expect(reach(THREE, at(25, 0x28), { 2: [[20, 30]], 3: [[30, 31]] })).toEqual({
      legs: [
        [2, 25, 29],
        [3, 30, 31],
      ],
      end: at(32),
      gap: undefined,
    })
  })

  test('two in the same segment are followed, also when the one between archived nothing', () => {
    const path = parseHistory(`1\t${lsnText(at(20, 0x100))}\tx\n2\t${lsnText(at(20, 0x200))}\tx\n`, 3)
    expect(reach(path, at(10), { 1: [[5, 19]], 3: [[20, 22]] })).toMatchObject({
      end: at(23),
      gap: undefined,
    })
  })

  test('in the segment where the backup begins, the old copy will do while the new one is not archived', () => {
    expect(reach(TWO, at(20, 0x28), { 1: [[5, 20]] })).toEqual({
      legs: [[1, 20, 20]],
      end: SWITCH,
      gap: undefined,
    })
  })

  test('a detour, where a recovery left a timeline before that began, is passed over', () => {
    // Left 1 at segment 20, then left 2 at segment 15, before 2 began: 3 comes from 1.
    const path = parseHistory(`1\t${lsnText(SWITCH)}\tx\n2\t${lsnText(at(15, 0x100))}\tx\n`, 3)
    expect(reach(path, at(10), { 1: [[5, 20]], 2: [[20, 25]], 3: [[15, 18]] })).toEqual({
      legs: [
        [1, 10, 14],
        [3, 15, 18],
      ],
      end: at(19),
      gap: undefined,
    })
  })
})

describe('a backup lies on the path', () => {
  const backup = (timeline: number, stop: bigint) => ({ timeline, stop: { lsn: lsnText(stop) } })
  test.each([
    ['of its own timeline', ONE, backup(1, at(50)), true],
    ['when it ended before the switch', TWO, backup(1, at(20, 0x4000)), true],
    ['when it ended at the switch', TWO, backup(1, SWITCH), true],
    ['not when it ended after the switch', TWO, backup(1, SWITCH + 1n), false],
    ['not on a later timeline', ONE, backup(2, at(21)), false],
    ['on the last timeline, however late', THREE, backup(3, at(99)), true],
    ['not on a timeline in between after that was left', THREE, backup(2, at(31)), false],
  ])('%s', (_what, path, candidate, expected) => {
    expect(isOnPath(path, candidate)).toBe(expected)
  })

  test('not on a detour', () => {
    const path = parseHistory(`1\t${lsnText(SWITCH)}\tx\n2\t${lsnText(at(15))}\tx\n`, 3)
    expect(isOnPath(path, backup(2, at(22)))).toBe(false)
    expect(isOnPath(path, backup(1, at(14)))).toBe(true)
    expect(isOnPath(path, backup(1, at(16)))).toBe(false)
  })
})

test('segments are counted up to a position, whose border belongs to the segment before', () => {
  const legs = [
    { timeline: 1, first: 10n, last: 19n },
    { timeline: 2, first: 20n, last: 25n },
  ]
  expect(segmentsUntil(legs, undefined, SEGMENT)).toBe(16)
  expect(segmentsUntil(legs, at(10, 1), SEGMENT)).toBe(1)
  expect(segmentsUntil(legs, at(20), SEGMENT)).toBe(10)
  expect(segmentsUntil(legs, at(20, 1), SEGMENT)).toBe(11)
  expect(segmentsUntil(legs, at(5), SEGMENT)).toBe(0)
  expect(segmentsUntil(legs, at(99), SEGMENT)).toBe(16)
})

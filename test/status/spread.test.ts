import { expect, test } from 'vitest'
import type { TimelineWal } from '../../src/catalog/wal-ranges.ts'
import { formatLsn } from '../../src/postgres/lsn.ts'
import { segmentName, segmentStart } from '../../src/postgres/wal-file.ts'
import { type Holding, missingIn, neededWal } from '../../src/status/spread.ts'
import { pathTo } from '../../src/status/windows.ts'
import { SEGMENT, summary } from '../catalog/stored.ts'

type Runs = [number, number][]

const name = (number: number, timeline = 1) => segmentName(timeline, BigInt(number), SEGMENT)
const at = (number: number) => formatLsn(segmentStart(BigInt(number), SEGMENT) + 0x5000n)

/** What is stored of timeline 1, and maybe of 2, which begins in segment 10. */
function holding(repository: string, ...timelines: Runs[]): Holding {
  const wal = timelines.map((runs, index): TimelineWal => {
    const timeline = index + 1
    const ranges = runs.map(([first, last]) => ({
      first: name(first, timeline),
      last: name(last, timeline),
      segments: last - first + 1,
      storedBytes: 1,
      firstStoredAt: '',
      newestStoredAt: '',
    }))
    const history = timeline === 2 && { hasHistory: true, history: [{ timeline: 1, switchedAt: at(10) }] }
    return { timeline, hasHistory: false, ranges, ...history }
  })
  return { repository, wal }
}

function missing(own: Holding, other: Holding, isLate = false, first: number | undefined = 1) {
  const backups = first === undefined ? [] : [summary('20261120T120000Z-full', { first })]
  const catalog = {
    cluster: 'main',
    systemIdentifier: '7',
    walSegmentBytes: SEGMENT,
    backups,
    wal: [...own.wal],
    logical: [],
    damaged: [],
  }
  const needs = neededWal(catalog, pathTo(other.wal, other.wal.length))
  return missingIn(own, [other], needs, SEGMENT, isLate).map(({ has, first, last, segments }) => [
    has,
    first,
    last,
    segments,
  ])
}

test('what is alike lacks nothing', () => {
  expect(missing(holding('a', [[1, 9]]), holding('b', [[1, 9]]))).toEqual([])
})

test('a gap that the other does not have is missing, even where both have gaps', () => {
  const own = holding('a', [
    [1, 3],
    [6, 6],
    [9, 20],
  ])
  const other = holding('b', [
    [1, 4],
    [7, 20],
  ])
  expect(missing(own, other)).toEqual([
    ['b', name(4), name(4), 1],
    ['b', name(7), name(8), 2],
  ])
  expect(missing(other, own)).toEqual([['a', name(6), name(6), 1]])
})

test('WAL before the oldest backup is not missed', () => {
  expect(missing(holding('a', [[10, 20]]), holding('b', [[1, 20]]), false, 10)).toEqual([])
  expect(missing(holding('a', [[10, 20]]), holding('b', [[1, 20]]), false, 8)).toEqual([
    ['b', name(8), name(9), 2],
  ])
})

test('what comes after the end is on its way, unless it is late', () => {
  const [own, other] = [holding('a', [[1, 9]]), holding('b', [[1, 12]])]
  expect(missing(own, other)).toEqual([])
  expect(missing(own, other, true)).toEqual([['b', name(10), name(12), 3]])
  expect(missing(own, holding('b', [[1, 10]]), true)).toEqual([])
})

test('without a backup no WAL is needed', () => {
  const needs = neededWal(
    {
      cluster: '',
      systemIdentifier: '',
      walSegmentBytes: SEGMENT,
      backups: [],
      logical: [],
      wal: [],
      damaged: [],
    },
    pathTo([], 1),
  )
  expect(missingIn(holding('a', []), [holding('b', [[1, 9]])], needs, SEGMENT, true)).toEqual([])
})

test('of a timeline before the current one what leads up to the switch is needed, and no more', () => {
  const other = holding('b', [[1, 12]], [[10, 20]])
  expect(missing(holding('a', [[1, 9]], [[10, 20]]), other)).toEqual([])
  expect(
    missing(
      holding(
        'a',
        [
          [1, 5],
          [8, 9],
        ],
        [[10, 20]],
      ),
      other,
    ),
  ).toEqual([['b', name(6), name(7), 2]])
  // It ended there, so nothing of it is on its way any more, not even a single segment.
  expect(missing(holding('a', [[1, 8]], [[10, 20]]), other)).toEqual([['b', name(9), name(9), 1]])
  expect(missing(holding('a', [[1, 5]], []), other)).toEqual([])
})

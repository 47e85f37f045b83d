import { expect, test } from 'vitest'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { type Holding, missingIn } from '../../src/status/spread.ts'
import { SEGMENT } from '../catalog/stored.ts'

const name = (number: number) => segmentName(1, BigInt(number), SEGMENT)
function holding(
  repository: string,
  runs: [number, number][],
  oldestNeeded: number | undefined = 1,
): Holding {
  const ranges = runs.map(([first, last]) => ({
    first: name(first),
    last: name(last),
    segments: last - first + 1,
    storedBytes: 1,
    firstStoredAt: '',
    newestStoredAt: '',
  }))
  return {
    repository,
    wal: { timeline: 1, hasHistory: false, ranges },
    oldestNeeded: oldestNeeded === undefined ? undefined : name(oldestNeeded),
  }
}
const missing = (own: Holding, other: Holding, isLate = false) =>
  missingIn(own, [other], SEGMENT, isLate).map(({ has, first, last, segments }) => [
    has,
    first,
    last,
    segments,
  ])

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
  expect(missing(holding('a', [[10, 20]], 10), holding('b', [[1, 20]]))).toEqual([])
  expect(missing(holding('a', [[10, 20]], 8), holding('b', [[1, 20]]))).toEqual([['b', name(8), name(9), 2]])
})

test('what comes after the end is on its way, unless it is late', () => {
  const [own, other] = [holding('a', [[1, 9]]), holding('b', [[1, 12]])]
  expect(missing(own, other)).toEqual([])
  expect(missing(own, other, true)).toEqual([['b', name(10), name(12), 3]])
  expect(missing(own, holding('b', [[1, 10]]), true)).toEqual([])
})

test('without a backup no WAL is needed', () => {
  expect(missing({ ...holding('a', []), oldestNeeded: undefined }, holding('b', [[1, 9]]), true)).toEqual([])
})

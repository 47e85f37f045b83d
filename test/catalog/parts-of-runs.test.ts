import { describe, expect, test } from 'vitest'
import { withoutRemoved } from '../../src/catalog/parts-of-runs.ts'
import { isInSpans, mergedSpans, withoutSpans } from '../../src/catalog/segment-spans.ts'
import type { TimelineWal } from '../../src/catalog/wal-ranges.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { range, SEGMENT } from './stored.ts'

const span = (first: number, last: number) => ({ first: BigInt(first), last: BigInt(last) })
const name = (number: number, timeline = 1) => segmentName(timeline, BigInt(number), SEGMENT)

describe('spans of segments', () => {
  test('are put together where they overlap or touch', () => {
    const spans = [span(20, 25), span(1, 3), span(4, 4), span(22, 23), span(6, 9), span(25, 30)]
    expect(mergedSpans(spans)).toEqual([span(1, 4), span(6, 9), span(20, 30)])
  })

  test.each([
    [span(1, 35), [span(1, 4), span(10, 19), span(31, 35)]],
    [span(5, 9), []],
    [span(7, 22), [span(10, 19)]],
    [span(10, 12), [span(10, 12)]],
    [span(31, 40), [span(31, 40)]],
    [span(10, 9), []],
  ])('%o without others is %o', (whole, left) => {
    expect(withoutSpans(whole, [span(5, 9), span(20, 30)])).toEqual(left)
  })

  test('know their numbers', () => {
    const spans = [span(5, 9), span(20, 30)]
    expect(range(1, 40).filter((number) => isInSpans(BigInt(number), spans))).toEqual([
      ...range(5, 9),
      ...range(20, 30),
    ])
  })
})

test('a run falls apart where segments were taken out of its middle, and shares its bytes', () => {
  const moments = { firstStoredAt: '2026-11-19T12:00:00.000Z', newestStoredAt: '2026-11-20T12:00:00.000Z' }
  const wal: TimelineWal = {
    timeline: 1,
    hasHistory: false,
    ranges: [
      { first: name(10), last: name(19), segments: 10, storedBytes: 100, ...moments },
      { first: name(30), last: name(30), segments: 1, storedBytes: 7, ...moments },
      { first: name(40), last: name(41), segments: 2, storedBytes: 20, ...moments },
    ],
  }
  // One of another timeline with the same number is none of these.
  const removed = [...[13, 14, 10, 19, 30].map((number) => name(number)), name(41, 2)].map((each) => ({
    name: each,
    bytes: 10,
  }))
  expect(withoutRemoved(wal, removed, SEGMENT).ranges).toEqual([
    { first: name(11), last: name(12), segments: 2, storedBytes: 20, ...moments },
    { first: name(15), last: name(18), segments: 4, storedBytes: 40, ...moments },
    wal.ranges[2],
  ])
})

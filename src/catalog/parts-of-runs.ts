import { segmentName, timelineName } from '../postgres/wal-file.ts'
import { mergedSpans, type Span, withoutSpans } from './segment-spans.ts'
import { firstWhere } from './sorted-search.ts'
import { segmentNumberOf, type TimelineWal, type WalRun } from './wal-ranges.ts'

/**
 * The runs as they are after the removal of some segments. Where a run falls apart, each part is told a share of its bytes, and
 * the times of the whole.
 * @param removed the segments, of any timeline, with their stored bytes
 */
export function withoutRemoved(
  { ranges, ...rest }: TimelineWal,
  removed: readonly { name: string; bytes: number }[],
  segmentBytes: number,
): TimelineWal {
  const { timeline } = rest
  const prefix = timelineName(timeline)
  const own = removed
    .filter(({ name }) => name.startsWith(prefix))
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
  const holes = mergedSpans(own.map(({ name }) => spanOf({ first: name, last: name }, segmentBytes)))
  const left = ranges.flatMap((run) => {
    const gone = own.slice(
      firstWhere(own, ({ name }) => name >= run.first),
      firstWhere(own, ({ name }) => name > run.last),
    )
    if (gone.length === 0) return [run]
    const segments = run.segments - gone.length
    const storedBytes = run.storedBytes - gone.reduce((sum, { bytes }) => sum + bytes, 0)
    return withoutSpans(spanOf(run, segmentBytes), holes).map((span) =>
      partOfRun({ ...run, segments, storedBytes }, span, timeline, segmentBytes),
    )
  })
  return { ...rest, ranges: left }
}

/** The numbers of a run's segments. */
export function spanOf({ first, last }: Pick<WalRun, 'first' | 'last'>, segmentBytes: number): Span {
  return { first: segmentNumberOf(first, segmentBytes), last: segmentNumberOf(last, segmentBytes) }
}

/** A part of a run, with its share of the bytes. */
export function partOfRun(
  run: WalRun,
  { first, last }: Span,
  timeline: number,
  segmentBytes: number,
): WalRun {
  const segments = Number(last - first) + 1
  return {
    ...run,
    first: segmentName(timeline, first, segmentBytes),
    last: segmentName(timeline, last, segmentBytes),
    segments,
    storedBytes: Math.round((run.storedBytes * segments) / run.segments),
  }
}

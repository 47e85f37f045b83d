import { numberOf, parseWalFile, segmentName } from '../postgres/wal-file.ts'
import type { ObjectFacts } from '../storage/storage.ts'
import { walNameOf } from './layout.ts'

/** What the archive holds of one timeline. */
export interface TimelineWal {
  timeline: number
  /** Runs of segments without a hole, in order. Between two of them is a gap. */
  ranges: WalRun[]
  /** Whether `<timeline>.history` is stored; the first timeline has none. */
  hasHistory: boolean
  /** The unfinished last segment of a timeline that ended by a promotion. */
  partial?: string
}

/** Segments `first` to `last`, all stored. */
export interface WalRun {
  first: string
  last: string
  segments: number
  storedBytes: number
  /** When the newest of them was stored, by the store's clock; ISO 8601. */
  newestStoredAt: string
}

/**
 * Sorts what lies in the archive into timelines and runs.
 * @param objects the listing of `wal/`, in the order of its keys
 */
export async function walTimelines(
  objects: AsyncIterable<ObjectFacts>,
  segmentBytes: number,
): Promise<TimelineWal[]> {
  const timelines = new Map<number, TimelineWal>()
  let run: (WalRun & { end: bigint; timeline: number }) | undefined
  for await (const object of objects) {
    const file = parseWalFile(walNameOf(object.key) ?? '')
    if (!file) continue
    const entry = timelines.get(file.timeline) ?? { timeline: file.timeline, ranges: [], hasHistory: false }
    timelines.set(file.timeline, entry)
    if (file.kind === 'history') entry.hasHistory = true
    else if (file.kind === 'partial') entry.partial = file.name
    else if (file.kind === 'segment') {
      const number = numberOf(file, segmentBytes)
      if (!run || run.timeline !== file.timeline || run.end + 1n !== number) {
        run = {
          timeline: file.timeline,
          first: file.name,
          last: file.name,
          segments: 0,
          storedBytes: 0,
          newestStoredAt: '',
          end: number,
        }
        entry.ranges.push(run)
      }
      run.last = file.name
      run.end = number
      run.segments++
      run.storedBytes += object.bytes
      const stored = object.modified.toISOString()
      if (stored > run.newestStoredAt) run.newestStoredAt = stored
    }
  }
  return [...timelines.values()]
    .map((entry) => ({
      ...entry,
      ranges: entry.ranges.map(({ first, last, segments, storedBytes, newestStoredAt }) => ({
        first,
        last,
        segments,
        storedBytes,
        newestStoredAt,
      })),
    }))
    .sort((a, b) => a.timeline - b.timeline)
}

/** A hole in a timeline: segments `first` to `last` are missing. */
export interface WalGap {
  timeline: number
  first: string
  last: string
  segments: number
}

/** The holes between the runs of each timeline. */
export function walGaps(timelines: readonly TimelineWal[], segmentBytes: number): WalGap[] {
  return timelines.flatMap(({ timeline, ranges }) =>
    ranges.slice(1).map((range, index) => {
      const first = segmentNumberOf(ranges[index]!.last, segmentBytes) + 1n
      const last = segmentNumberOf(range.first, segmentBytes) - 1n
      return {
        timeline,
        first: segmentName(timeline, first, segmentBytes),
        last: segmentName(timeline, last, segmentBytes),
        segments: Number(last - first) + 1,
      }
    }),
  )
}

/**
 * How far the archive reaches without a hole from one segment on.
 * @returns the number of the last segment of the run that holds `from`, or undefined when `from` is not stored
 */
export function reachFrom(
  wal: TimelineWal | undefined,
  from: bigint,
  segmentBytes: number,
): bigint | undefined {
  for (const range of wal?.ranges ?? []) {
    const last = segmentNumberOf(range.last, segmentBytes)
    if (segmentNumberOf(range.first, segmentBytes) <= from && from <= last) return last
  }
  return undefined
}

/** The number of a segment by its name. */
export function segmentNumberOf(name: string, segmentBytes: number): bigint {
  const file = parseWalFile(name)
  if (file?.kind !== 'segment') throw new TypeError(`"${name}" is not a segment`)
  return numberOf(file, segmentBytes)
}

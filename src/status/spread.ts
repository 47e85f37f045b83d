import type { Catalog } from '../catalog/catalog.ts'
import { segmentNumberOf, type TimelineWal } from '../catalog/wal-ranges.ts'
import type { TimelineHistory } from '../postgres/timeline-history.ts'
import { segmentName, segmentNumber } from '../postgres/wal-file.ts'
import { isOnPath } from '../restore/timeline-path.ts'
import type { MissingWal } from './facts.ts'

/** What one repository holds. */
export interface Holding {
  repository: string
  wal: readonly TimelineWal[]
}

/** Segments `first` to `last` of a timeline, or all from `first` on of the one that goes on. */
export interface Need {
  timeline: number
  first: bigint
  last: bigint | undefined
}

/**
 * The WAL on a path that recoveries of the backups read: from the oldest on, of each timeline up to where it was left. Where
 * retention has let go what lies between backups, from there on.
 */
export function neededWal({ backups, wal, walSegmentBytes }: Catalog, path: TimelineHistory): Need[] {
  const oldest = backups.find((backup) => isOnPath(path, backup))
  if (!oldest) return []
  // Names of different timelines do not compare, the numbers in them do.
  const least = segmentNumberOf(oldest.start.walFile, walSegmentBytes)
  return path.flatMap(({ timeline, begin, end }) => {
    const thinned = wal.find((entry) => entry.timeline === timeline)?.thinnedBefore
    const own = thinned === undefined ? least : max(least, segmentNumberOf(thinned, walSegmentBytes))
    const first = max(own, segmentNumber(begin, walSegmentBytes))
    // The segment with the switch is read from the new timeline.
    const last = end === undefined ? undefined : segmentNumber(end, walSegmentBytes) - 1n
    return last === undefined || first <= last ? [{ timeline, first, last }] : []
  })
}

/**
 * The WAL that is needed, and that another repository has and this one lacks.
 * @param needs in the order of the timelines
 * @param isLate whether nothing came here for so long that what the other has beyond the end should be here too; else the
 *   newest segments are on their way. A single one may be, at any time.
 */
export function missingIn(
  own: Holding,
  others: readonly Holding[],
  needs: readonly Need[],
  segmentBytes: number,
  isLate: boolean,
): MissingWal[] {
  return needs.flatMap((need, index) => {
    const have = runsOf(own, need, segmentBytes)
    const end = have.at(-1)?.last ?? -1n
    // What comes before WAL that is here, on this timeline or on a later one, is not on its way.
    const isLeft = needs.slice(index + 1).some((later) => runsOf(own, later, segmentBytes).length > 0)
    return others.flatMap((other) =>
      runsOf(other, need, segmentBytes)
        .flatMap((run) => without(run, have))
        .filter(({ first, last }) => isLeft || first <= end || (isLate && last > first))
        .map(({ first, last }) => ({
          has: other.repository,
          timeline: need.timeline,
          first: segmentName(need.timeline, first, segmentBytes),
          last: segmentName(need.timeline, last, segmentBytes),
          segments: Number(last - first) + 1,
        })),
    )
  })
}

interface Numbers {
  first: bigint
  last: bigint
}

/** What a repository has of what is needed. */
function runsOf({ wal }: Holding, need: Need, segmentBytes: number): Numbers[] {
  const { ranges = [] } = wal.find(({ timeline }) => timeline === need.timeline) ?? {}
  return ranges
    .map((run) => ({
      first: max(segmentNumberOf(run.first, segmentBytes), need.first),
      last: min(segmentNumberOf(run.last, segmentBytes), need.last),
    }))
    .filter(({ first, last }) => first <= last)
}

/** What is left of a run without others, which are in order. */
function without(run: Numbers, others: readonly Numbers[]): Numbers[] {
  const left: Numbers[] = []
  let next = run.first
  for (const { first, last } of others) {
    if (last < next) continue
    if (first > run.last) break
    if (first > next) left.push({ first: next, last: first - 1n })
    next = last + 1n
  }
  if (next <= run.last) left.push({ first: next, last: run.last })
  return left
}

const max = (a: bigint, b: bigint) => (a > b ? a : b)
const min = (a: bigint, b: bigint | undefined) => (b === undefined || a < b ? a : b)

import type { TimelineWal } from '../catalog/wal-ranges.ts'
import { reachFrom, segmentNumberOf } from '../catalog/wal-ranges.ts'
import { type Lsn, lsn } from '../postgres/lsn.ts'
import type { TimelineHistory } from '../postgres/timeline-history.ts'
import { lastSegmentNumber, segmentName, segmentNumber, segmentStart } from '../postgres/wal-file.ts'

/** WAL that a recovery reads from one timeline, segments `first` to `last`, all of them stored. */
export interface WalLeg {
  timeline: number
  first: bigint
  last: bigint
}

/** How far a recovery that begins at some position can go. */
export interface Reach {
  legs: WalLeg[]
  /** The first position that no stored WAL covers. */
  end: Lsn
  /**
   * The last segment of the last leg is still being received: its WAL ends somewhere before `end`, and only looking
   * into it tells where.
   */
  isGrowing?: true
  /** The segment whose absence ends it, where later WAL on the way is stored; undefined at the archive's end. */
  gap: string | undefined
}

/**
 * Follows the WAL from `start` along a timeline's path through its ancestors.
 * At a switch, the segment that holds the switch point is read from the new timeline, whose first segment repeats
 * what the old one had of it; from the newest, where several switches lie in one segment.
 * @param path the stretches from the oldest ancestor to the target timeline
 */
export function reachAlong(
  path: TimelineHistory,
  start: Lsn,
  wal: readonly TimelineWal[],
  segmentBytes: number,
): Reach {
  const way = path
    .filter(({ begin, end }) => end === undefined || (end > start && end > begin))
    .map((stretch) => ({ ...stretch, stored: wal.find((entry) => entry.timeline === stretch.timeline) }))
  const legs: WalLeg[] = []
  let next = segmentNumber(start, segmentBytes)
  const hasLater = (from: number) =>
    way.slice(from).some(({ stored }) => {
      const last = stored?.receiving?.segment ?? stored?.ranges.at(-1)?.last
      return last !== undefined && segmentNumberOf(last, segmentBytes) > next
    })
  for (const [index, { timeline, stored }] of way.entries()) {
    const following = way[index + 1]
    const limit = following && segmentNumber(following.begin, segmentBytes) - 1n
    if (limit !== undefined && limit < next) continue
    const last = min(reachWithReceiving(stored, next, segmentBytes), limit)
    if (last !== undefined) {
      legs.push({ timeline, first: next, last })
      next = last + 1n
    }
    if (limit !== undefined && next > limit) continue
    // Where nothing of the new timelines is archived yet, an old one's own copy of the segment leads up to the switch.
    for (let older = index - 1; older >= 0 && !hasLater(older + 1); older--) {
      const { end, stored: copies, timeline: own } = way[older]!
      if (end! <= segmentStart(next, segmentBytes)) break
      if (reachFrom(copies, next, segmentBytes) === undefined) continue
      legs.push({ timeline: own, first: next, last: next })
      return { legs, end: end!, gap: undefined }
    }
    const gap = hasLater(index) ? segmentName(timeline, next, segmentBytes) : undefined
    const isGrowing = last !== undefined && last === receivingNumber(stored, segmentBytes)
    return { legs, end: segmentStart(next, segmentBytes), gap, ...(isGrowing && { isGrowing }) }
  }
  return { legs, end: segmentStart(next, segmentBytes), gap: undefined }
}

/** As `reachFrom`, with the segment that is being received. */
function reachWithReceiving(
  stored: TimelineWal | undefined,
  from: bigint,
  segmentBytes: number,
): bigint | undefined {
  const whole = reachFrom(stored, from, segmentBytes)
  const next = whole === undefined ? from : whole + 1n
  return receivingNumber(stored, segmentBytes) === next ? next : whole
}

function receivingNumber(stored: TimelineWal | undefined, segmentBytes: number): bigint | undefined {
  return stored?.receiving && segmentNumberOf(stored.receiving.segment, segmentBytes)
}

/** Whether a backup lies on a path: its timeline is part of it, and it ended before the path left that timeline. */
export function isOnPath(
  path: TimelineHistory,
  backup: { timeline: number; stop: { lsn: string } },
): boolean {
  const stretch = path.find((candidate) => candidate.timeline === backup.timeline)
  return stretch !== undefined && (stretch.end === undefined || lsn(backup.stop.lsn) <= stretch.end)
}

/** The number of segments that a recovery reads up to a position, or in all. */
export function segmentsUntil(legs: readonly WalLeg[], end: Lsn | undefined, segmentBytes: number): number {
  const limit = end === undefined ? undefined : lastSegmentNumber(end, segmentBytes)
  return legs.reduce((sum, leg) => {
    const last = limit === undefined || leg.last < limit ? leg.last : limit
    return last < leg.first ? sum : sum + Number(last - leg.first) + 1
  }, 0)
}

function min(a: bigint | undefined, b: bigint | undefined): bigint | undefined {
  if (a === undefined) return undefined
  return b === undefined || a < b ? a : b
}

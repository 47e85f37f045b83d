import type { TimelineWal } from '../catalog/wal-ranges.ts'
import { reachFrom } from '../catalog/wal-ranges.ts'
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
  /** The segment whose absence ends it, where later WAL on the way is stored; undefined at the archive's end. */
  gap: string | undefined
}

/**
 * Follows the WAL from `start` along a timeline's path through its ancestors.
 * At a switch, the segment that holds the switch point is read from the new timeline, whose first segment repeats
 * what the old one had of it.
 * @param path the stretches from the oldest ancestor to the target timeline
 */
export function reachAlong(
  path: TimelineHistory,
  start: Lsn,
  wal: readonly TimelineWal[],
  segmentBytes: number,
): Reach {
  const legs: WalLeg[] = []
  const way = path.filter((stretch) => stretch.end === undefined || stretch.end > start)
  let next = segmentNumber(start, segmentBytes)
  for (const [index, stretch] of way.entries()) {
    const stored = wal.find((entry) => entry.timeline === stretch.timeline)
    const reach = reachFrom(stored, next, segmentBytes)
    const switchSegment = stretch.end === undefined ? undefined : segmentNumber(stretch.end, segmentBytes)
    if (switchSegment !== undefined && switchSegment <= next) continue
    const last = min(reach, switchSegment === undefined ? undefined : switchSegment - 1n)
    if (reach !== undefined && last !== undefined) {
      legs.push({ timeline: stretch.timeline, first: next, last })
      next = last + 1n
    }
    let missingFrom = stretch.timeline
    if (switchSegment !== undefined && next === switchSegment) {
      missingFrom = way[index + 1]!.timeline
      const following = wal.find((entry) => entry.timeline === missingFrom)
      if (reachFrom(following, next, segmentBytes) !== undefined) continue
      // Nothing of the new timeline is archived yet: the old one's own copy of the segment leads up to the switch.
      const isBegun = following !== undefined && following.ranges.length > 0
      if (!isBegun && reach !== undefined && reach >= switchSegment) {
        legs.push({ timeline: stretch.timeline, first: switchSegment, last: switchSegment })
        return { legs, end: stretch.end!, gap: undefined }
      }
    }
    const hasLater = way.slice(index).some((later) => {
      const beyond = wal.find((entry) => entry.timeline === later.timeline)?.ranges.at(-1)
      return (
        beyond !== undefined &&
        beyond.last.slice(8) > segmentName(later.timeline, next, segmentBytes).slice(8)
      )
    })
    return {
      legs,
      end: segmentStart(next, segmentBytes),
      gap: hasLater ? segmentName(missingFrom, next, segmentBytes) : undefined,
    }
  }
  return { legs, end: segmentStart(next, segmentBytes), gap: undefined }
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

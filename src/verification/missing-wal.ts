import type { BackupSummary } from '../catalog/backup-record.ts'
import { spanOf } from '../catalog/parts-of-runs.ts'
import { mergedSpans, type Span, withoutSpans } from '../catalog/segment-spans.ts'
import { hasOwnWal, segmentNumberOf, type TimelineWal } from '../catalog/wal-ranges.ts'
import { segmentName } from '../postgres/wal-file.ts'
import type { KnownSpan } from './known-spans.ts'
import { ownSegments } from './verify-wal.ts'

/** Segments that must be there and are not. */
export interface MissingWal extends Span {
  timeline: number
}

export interface MissingQuestion {
  timelines: readonly TimelineWal[]
  segmentBytes: number
  /** Those that are looked at. */
  backups: readonly BackupSummary[]
  /** Whether all WAL is looked at, and not only what makes the backups consistent. */
  isAll: boolean
  /** What was found sound before. */
  known: readonly KnownSpan[]
}

/**
 * Which segments must be there and are not: those that make a backup consistent, those between others, and those at the end of a
 * timeline that were there once. Pure.
 *
 * Retention with the rule `wal` leaves holes and notes up to where; such a hole is none.
 */
export function missingWal(question: MissingQuestion): MissingWal[] {
  const missing = [...missingOwn(question)]
  if (question.isAll) missing.push(...missingBetween(question), ...missingAtEnd(question))
  const timelines = new Set(missing.map(({ timeline }) => timeline))
  return [...timelines].flatMap((timeline) =>
    mergedSpans(missing.filter((span) => span.timeline === timeline)).map((span) => ({ timeline, ...span })),
  )
}

function* missingOwn({ timelines, segmentBytes, backups }: MissingQuestion): Generator<MissingWal> {
  for (const backup of backups) {
    const own = ownSegments(backup)
    if (!own || hasOwnWal(backup, timelines, segmentBytes)) continue
    const stored = storedSpans(timelines, backup.timeline, segmentBytes)
    for (const span of withoutSpans(own, stored)) yield { timeline: backup.timeline, ...span }
  }
}

function* missingBetween({ timelines, segmentBytes }: MissingQuestion): Generator<MissingWal> {
  for (const entry of timelines) {
    const { timeline } = entry
    const stored = storedSpans(timelines, timeline, segmentBytes)
    for (const [index, { last }] of stored.slice(0, -1).entries()) {
      const hole = { first: last + 1n, last: stored[index + 1]!.first - 1n }
      for (const span of withoutSpans(hole, thinnedSpans(entry, segmentBytes))) yield { timeline, ...span }
    }
  }
}

function* missingAtEnd({ timelines, segmentBytes, known }: MissingQuestion): Generator<MissingWal> {
  for (const entry of timelines) {
    const { timeline } = entry
    const end = storedSpans(timelines, timeline, segmentBytes).at(-1)?.last
    if (end === undefined) continue
    for (const { first, last } of known.filter((candidate) => candidate.timeline === timeline)) {
      const behind = { first: first > end ? first : end + 1n, last }
      if (last > end)
        for (const span of withoutSpans(behind, thinnedSpans(entry, segmentBytes)))
          yield { timeline, ...span }
    }
  }
}

/** What retention let go on purpose; what is stored of it makes backups consistent. */
function thinnedSpans({ thinnedBefore }: TimelineWal, segmentBytes: number): Span[] {
  return thinnedBefore === undefined
    ? []
    : [{ first: 0n, last: segmentNumberOf(thinnedBefore, segmentBytes) - 1n }]
}

/** In order. */
export function storedSpans(
  timelines: readonly TimelineWal[],
  timeline: number,
  segmentBytes: number,
): Span[] {
  const entry = timelines.find((candidate) => candidate.timeline === timeline)
  return (entry?.ranges ?? []).map((run) => spanOf(run, segmentBytes))
}

/** The archive as if what is missing were there. */
export function withMissing(
  timelines: readonly TimelineWal[],
  missing: readonly MissingWal[],
  segmentBytes: number,
): TimelineWal[] {
  return timelines.map((entry) => {
    const own = missing.filter(({ timeline }) => timeline === entry.timeline)
    if (own.length === 0) return entry
    const runs = mergedSpans([...storedSpans([entry], entry.timeline, segmentBytes), ...own])
    const ranges = runs.map((span) => {
      const first = segmentName(entry.timeline, span.first, segmentBytes)
      const last = segmentName(entry.timeline, span.last, segmentBytes)
      const parts = entry.ranges.filter((run) => first <= run.first && run.last <= last)
      return {
        ...{ first, last, segments: Number(span.last - span.first) + 1 },
        storedBytes: parts.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
        firstStoredAt: parts[0]?.firstStoredAt ?? NEVER,
        newestStoredAt: parts.reduce(
          (at, { newestStoredAt }) => (newestStoredAt > at ? newestStoredAt : at),
          NEVER,
        ),
      }
    })
    return { ...entry, ranges }
  })
}

/** By the timeline, in order. What is missing at its end is known by having been there. */
export function storedOrMissing(
  timelines: readonly TimelineWal[],
  missing: readonly MissingWal[],
  segmentBytes: number,
): Map<number, Span[]> {
  const wal = withMissing(timelines, missing, segmentBytes)
  return new Map(wal.map(({ timeline }) => [timeline, storedSpans(wal, timeline, segmentBytes)]))
}

/** When nothing of a run is stored. */
const NEVER = '1970-01-01T00:00:00.000Z'

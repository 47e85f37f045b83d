import { type Lsn, lsn } from '../postgres/lsn.ts'
import { segmentNumber } from '../postgres/wal-file.ts'
import type { BackupSummary } from './backup-record.ts'
import { mergedSpans, type Span } from './segment-spans.ts'
import { segmentNumberOf, type TimelineWal } from './wal-ranges.ts'

/**
 * What makes backups consistent, by the timeline: from the start to the stop of each that does not hold it inside. Pure.
 * @param wal whose histories tell where timelines were left
 */
export function ownWalOf(
  backups: readonly Pick<BackupSummary, 'standalone' | 'timeline' | 'start' | 'stop'>[],
  wal: readonly Pick<TimelineWal, 'timeline' | 'history'>[],
  segmentBytes: number,
): Map<number, Span[]> {
  const departures = departuresOf(wal, segmentBytes)
  const spans = new Map<number, Span[]>()
  const add = (timeline: number, span: Span) => {
    const others = spans.get(timeline)
    if (others) others.push(span)
    else spans.set(timeline, [span])
  }
  for (const { timeline, start, stop } of backups.filter(({ standalone }) => !standalone)) {
    const first = segmentNumberOf(start.walFile, segmentBytes)
    const last = segmentNumberOf(stop.walFile, segmentBytes)
    add(timeline, { first, last })
    // Where a promotion came right after the backup, its last segment may be stored as the next timeline's only.
    for (const { to, at, segment } of departures.get(timeline) ?? [])
      if (segment === last && at >= lsn(stop.lsn)) add(to, { first: last, last })
  }
  return new Map([...spans].map(([timeline, each]) => [timeline, mergedSpans(each)]))
}

/** Where a timeline was left, and for which other one. */
interface Departure {
  to: number
  at: Lsn
  segment: bigint
}

function departuresOf(
  wal: readonly Pick<TimelineWal, 'timeline' | 'history'>[],
  segmentBytes: number,
): Map<number, Departure[]> {
  const departures = new Map<number, Departure[]>()
  for (const { timeline: to, history = [] } of wal)
    for (const { timeline, switchedAt } of history) {
      const at = lsn(switchedAt)
      const departure = { to, at, segment: segmentNumber(at, segmentBytes) }
      departures.set(timeline, [...(departures.get(timeline) ?? []), departure])
    }
  return departures
}

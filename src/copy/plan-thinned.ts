import type { BackupSummary } from '../catalog/backup-record.ts'
import { ownWalOf } from '../catalog/own-wal.ts'
import { isInSpans } from '../catalog/segment-spans.ts'
import type { ThinnedTimeline } from '../catalog/thinned-wal.ts'
import { isThinned, type TimelineWal } from '../catalog/wal-ranges.ts'
import { numberOf, type WalFile } from '../postgres/wal-file.ts'

export type Timeline = Pick<TimelineWal, 'timeline' | 'history' | 'thinnedBefore'>

interface Holding {
  timelines?: readonly Timeline[]
}

/**
 * Tells of WAL whether the destination wants it: what its retention has let go would go again. Pure.
 * @param backups all that are going to be there, whose own WAL is wanted in any case
 */
export function notThinnedIn(
  { timelines = [] }: Holding,
  backups: readonly BackupSummary[],
  segmentBytes: number,
): (file: WalFile) => boolean {
  const own = ownWalOf(backups, timelines, segmentBytes)
  const byNumber = new Map(timelines.map((entry) => [entry.timeline, entry]))
  return (file) =>
    file.kind === 'history' ||
    !isThinned(byNumber.get(file.timeline), file.name) ||
    isInSpans(numberOf(file, segmentBytes), own.get(file.timeline) ?? [])
}

/** The timelines of which a backup is brought whose WAL was thinned out in the source, so that it has no more in the destination. Pure. */
export function broughtThin(
  { timelines = [] }: Holding,
  copied: readonly BackupSummary[],
): ThinnedTimeline[] {
  return timelines.flatMap((entry) => {
    const { timeline, thinnedBefore: before } = entry
    const isBrought = copied.some(
      (backup) => backup.timeline === timeline && isThinned(entry, backup.start.walFile),
    )
    return isBrought && before !== undefined ? [{ timeline, before }] : []
  })
}

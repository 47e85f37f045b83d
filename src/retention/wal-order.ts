import type { BackupSummary } from '../catalog/backup-record.ts'
import { lsn } from '../postgres/lsn.ts'

/**
 * Backups in the order of the WAL, oldest first: by their timelines, and on one timeline by where they end. That is the order in
 * which they were taken, whatever the clocks said. (A timeline gets a higher number than all that are archived.)
 */
export function inWalOrder(backups: readonly BackupSummary[]): BackupSummary[] {
  return backups
    .map((backup) => ({ backup, stop: lsn(backup.stop.lsn) }))
    .sort((a, b) => a.backup.timeline - b.backup.timeline || (a.stop < b.stop ? -1 : a.stop > b.stop ? 1 : 0))
    .map(({ backup }) => backup)
}

/** When a backup ended, by the server's clock, in milliseconds since 1970; never, where that is not told. */
export function endOf({ stop }: Pick<BackupSummary, 'stop'>): number {
  const moment = Date.parse(stop.time)
  return Number.isNaN(moment) ? Number.POSITIVE_INFINITY : moment
}

/** By so much two clocks may differ, in milliseconds. */
export const CLOCKS_DIFFER_MS = 5 * 60_000

/** Whether a backup ended later than now: then one of the clocks is wrong, and nobody knows which. */
export function isFromFuture(backup: Pick<BackupSummary, 'stop'>, now: Date): boolean {
  return endOf(backup) > now.getTime() + CLOCKS_DIFFER_MS
}

/**
 * The newest backup that had ended at a moment. The order of the WAL is what counts; what is behind one whose clock had gone
 * back is not believed to be as old as it says, and what is from the future says nothing.
 * @param backups in the order of the WAL
 * @param moment milliseconds since 1970
 */
export function lastEndedBy(
  backups: readonly BackupSummary[],
  moment: number,
  now: Date,
): BackupSummary | undefined {
  let found: BackupSummary | undefined
  let before = Number.NEGATIVE_INFINITY
  for (const backup of backups) {
    if (isFromFuture(backup, now)) continue
    const end = endOf(backup)
    if (end > moment || end < before) break
    before = end
    found = backup
  }
  return found
}

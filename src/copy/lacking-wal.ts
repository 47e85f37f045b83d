import type { BackupSummary } from '../catalog/backup-record.ts'
import { segmentNumberOf } from '../catalog/wal-ranges.ts'
import { segmentName } from '../postgres/wal-file.ts'

/**
 * The first segment of a backup's own WAL that is nowhere. After a promotion right behind the backup, the last one may be
 * there as a later timeline's first one.
 */
export function lackingWal(
  { timeline, standalone, start, stop }: BackupSummary,
  available: ReadonlySet<string>,
  segmentBytes: number,
): string | undefined {
  if (standalone) return undefined
  const last = segmentNumberOf(stop.walFile, segmentBytes)
  for (let number = segmentNumberOf(start.walFile, segmentBytes); number <= last; number++) {
    const name = segmentName(timeline, number, segmentBytes)
    if (available.has(name)) continue
    const suffix = name.slice(8)
    const isContinued =
      number === last &&
      [...available].some((other) => other > name && other.length === name.length && other.endsWith(suffix))
    if (!isContinued) return name
  }
  return undefined
}

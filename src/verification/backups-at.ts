import type { BackupSummary } from '../catalog/backup-record.ts'
import { segmentNumberOf } from '../catalog/wal-ranges.ts'
import type { Chosen } from './choose-backups.ts'
import type { Place } from './places.ts'
import { ownSegments } from './verify-wal.ts'

/** The backups, among those that are looked at, that are not sound because of what lies at a place. Pure. */
export function backupsAt(place: Place, chosen: readonly Chosen[], segmentBytes: number): string[] {
  if ('backup' in place) return [place.backup]
  const isOwn = (backup: BackupSummary) => {
    const own = ownSegments(backup)
    if (!own || !('timeline' in place || place.kind === 'wal')) return false
    if (place.kind === 'missing')
      return backup.timeline === place.timeline && own.first <= place.last && place.first <= own.last
    if (place.file.timeline !== backup.timeline) return false
    if (place.file.kind === 'history') return true
    if (place.file.kind !== 'segment') return false
    const number = segmentNumberOf(place.file.name, segmentBytes)
    return own.first <= number && number <= own.last
  }
  return chosen.flatMap(({ summary }) =>
    summary && summary.method !== 'logical' && isOwn(summary) ? [summary.id] : [],
  )
}

import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import type { Pin } from '../catalog/pin.ts'
import { segmentNumberOf } from '../catalog/wal-ranges.ts'
import { segmentName } from '../postgres/wal-file.ts'

export interface RetentionRules {
  /** How many full backups stay; at least one. */
  full: number
}

/** What a retention run is going to do: computed first, shown with `--dry-run`, then carried out as it is. */
export interface RetentionPlan {
  cluster: string
  backups: { id: string; stopTime: string; storedBytes: number; stays: boolean; reason: string }[]
  /**
   * WAL segments whose number is lower are needed by no backup that stays, on whatever timeline; undefined when no WAL
   * may go.
   */
  walBefore: bigint | undefined
  /** What that is, for people. `storedBytes` is exact where a whole run goes, and in proportion where a part does. */
  wal: { timeline: number; first: string; last: string; segments: number; storedBytes: number }[]
  warnings: string[]
}

/**
 * Decides which backups stay and from where on WAL is needed. Pure: neither clock nor storage.
 * @param pins backups that somebody is reading now
 */
export function planRetention(catalog: Catalog, rules: RetentionRules, pins: readonly Pin[]): RetentionPlan {
  if (!(rules.full >= 1)) throw new RangeError(`a rule must keep at least one backup, not ${rules.full}`)
  const newestFirst = catalog.backups.toReversed()
  const backups = newestFirst.map((backup, index) => verdict(backup, index, rules, pins)).toReversed()
  const staying = catalog.backups.filter((_, index) => backups[index]!.stays)
  const starts = staying.map((backup) => segmentNumberOf(backup.start.walFile, backup.walSegmentBytes))
  const warnings = catalog.damaged.map(
    ({ id, reason }) => `backup ${id} cannot be read (${reason}); it stays, and so does all WAL`,
  )
  const foreign = catalog.backups.find((backup) => backup.walSegmentBytes !== catalog.walSegmentBytes)
  if (foreign) warnings.push(`${foreign.id} has WAL segments of another size than the archive; all WAL stays`)
  const walBefore =
    starts.length === 0 || catalog.damaged.length > 0 || foreign
      ? undefined
      : starts.reduce((least, start) => (start < least ? start : least))
  return {
    cluster: catalog.cluster,
    backups,
    walBefore,
    wal: walBefore === undefined ? [] : walToRemove(catalog, walBefore),
    warnings,
  }
}

function verdict(
  backup: BackupSummary,
  newerBackups: number,
  { full }: RetentionRules,
  pins: readonly Pin[],
): RetentionPlan['backups'][number] {
  const pin = pins.find((candidate) => candidate.backup === backup.id)
  const isRecent = newerBackups < full
  const reason = isRecent
    ? `one of the newest ${full}`
    : pin
      ? `in use: ${pin.purpose}`
      : `beyond the newest ${full}`
  return {
    id: backup.id,
    stopTime: backup.stop.time,
    storedBytes: backup.storedBytes,
    stays: isRecent || pin !== undefined,
    reason,
  }
}

function walToRemove(catalog: Catalog, before: bigint): RetentionPlan['wal'] {
  const segmentBytes = catalog.walSegmentBytes
  return catalog.wal.flatMap(({ timeline, ranges }) =>
    ranges.flatMap((range) => {
      const first = segmentNumberOf(range.first, segmentBytes)
      const rangeLast = segmentNumberOf(range.last, segmentBytes)
      const last = rangeLast < before ? rangeLast : before - 1n
      if (last < first) return []
      const segments = Number(last - first) + 1
      return [
        {
          timeline,
          first: range.first,
          last: segmentName(timeline, last, segmentBytes),
          segments,
          storedBytes: Math.round((range.storedBytes * segments) / range.segments),
        },
      ]
    }),
  )
}

import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import type { Pin } from '../catalog/pin.ts'
import { hasOwnWal, lacksHistory, segmentNumberOf } from '../catalog/wal-ranges.ts'
import { segmentName } from '../postgres/wal-file.ts'

export interface RetentionRules {
  /** How many full backups stay that can be recovered; at least one. Those that cannot be do not count. */
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
 * @param locks until when the store keeps a backup's record, by the backup's id; only of those that it still keeps
 */
export function planRetention(
  catalog: Catalog,
  rules: RetentionRules,
  pins: readonly Pin[],
  locks: ReadonlyMap<string, Date> = new Map(),
): RetentionPlan {
  if (!(rules.full >= 1)) throw new RangeError(`a rule must keep at least one backup, not ${rules.full}`)
  const countable = new Set(catalog.backups.filter((backup) => canBeRecovered(backup, catalog)))
  const backups = catalog.backups.map((backup, index) => {
    const newer = catalog.backups.slice(index + 1).filter((other) => countable.has(other))
    const facts = { newer: newer.length, counts: countable.has(backup), lockedUntil: locks.get(backup.id) }
    return verdict(backup, facts, rules, pins)
  })
  const staying = catalog.backups.filter((_, index) => backups[index]!.stays)
  const starts = staying.map((backup) => segmentNumberOf(backup.start.walFile, backup.walSegmentBytes))
  const foreign = catalog.backups.find((backup) => backup.walSegmentBytes !== catalog.walSegmentBytes)
  const warnings = [
    ...catalog.damaged.map(
      ({ id, reason }) => `backup ${id} cannot be read (${reason}); it stays, and so does all WAL`,
    ),
    ...staying
      .filter((backup) => !countable.has(backup) && backup !== foreign)
      .map(
        ({ id }) =>
          `backup ${id} lacks its own WAL; it stays, and does not count as one of those that are kept`,
      ),
  ]
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

/** Where it cannot be, the backups before it are the ones that a recovery begins with. */
function canBeRecovered(backup: BackupSummary, { wal, walSegmentBytes }: Catalog): boolean {
  const isReachable = !wal.some((entry) => entry.timeline === backup.timeline && lacksHistory(entry))
  return (backup.standalone && isReachable) || hasOwnWal(backup, wal, walSegmentBytes)
}

function verdict(
  backup: BackupSummary,
  { newer, counts, lockedUntil }: { newer: number; counts: boolean; lockedUntil: Date | undefined },
  { full }: RetentionRules,
  pins: readonly Pin[],
): RetentionPlan['backups'][number] {
  const pin = pins.find((candidate) => candidate.backup === backup.id)
  const isRecent = newer < full
  const recent = counts ? `one of the newest ${full}` : 'lacks its WAL, so not counted'
  const held = pin ? `in use: ${pin.purpose}` : lockedUntil && `locked until ${secondOf(lockedUntil)}`
  return {
    id: backup.id,
    stopTime: backup.stop.time,
    storedBytes: backup.storedBytes,
    stays: isRecent || held !== undefined,
    reason: isRecent ? recent : (held ?? `beyond the newest ${full}`),
  }
}

/** A moment for people, ISO 8601 without fractions. */
export function secondOf(moment: Date): string {
  return moment.toISOString().replace(/\.\d+/, '')
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

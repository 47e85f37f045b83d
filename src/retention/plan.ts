import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { brokenText, Chains } from '../catalog/chains.ts'
import type { Pin } from '../catalog/pin.ts'
import { hasOwnWal, lacksHistory, segmentNumberOf } from '../catalog/wal-ranges.ts'
import { segmentName } from '../postgres/wal-file.ts'

export interface RetentionRules {
  /**
   * How many full backups stay that can be recovered; at least one. Those that cannot be do not count, nor does what builds
   * upon them, which stays until so many full ones are newer.
   */
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
 * Decides which backups stay and from where on WAL is needed. What a staying backup builds upon stays too. Pure: neither
 * clock nor storage.
 * @param pins backups that somebody is reading now
 * @param locks until when the store keeps a backup's record, by the backup's id; only of those that it still keeps
 */
export function planRetention(
  catalog: Catalog,
  { full }: RetentionRules,
  pins: readonly Pin[],
  locks: ReadonlyMap<string, Date> = new Map(),
): RetentionPlan {
  if (!(full >= 1)) throw new RangeError(`a rule must keep at least one backup, not ${full}`)
  const { backups, damaged } = catalog
  const chains = new Chains(backups)
  const faults = new Map(backups.map((backup) => [backup, faultOf(backup, catalog, chains)]))
  const reasons = new Map<BackupSummary, string>()
  let newer = 0
  for (const backup of backups.toReversed()) {
    const fault = faults.get(backup)
    const reason = newer < full ? recentText(backup, fault, full) : heldText(backup, pins, locks, damaged)
    if (reason !== undefined) reasons.set(backup, reason)
    if (backup.type === 'full' && !fault) newer++
  }
  for (const [backup, needing] of neededBy([...reasons.keys()], chains))
    reasons.set(backup, `needed by ${needing.id}`)
  const staying = backups.filter((backup) => reasons.has(backup))
  const foreign = backups.find((backup) => backup.walSegmentBytes !== catalog.walSegmentBytes)
  const warnings = [
    ...damaged.map(damagedText),
    ...staying.filter((backup) => backup !== foreign).flatMap((backup) => faults.get(backup)?.warning ?? []),
  ]
  if (foreign) warnings.push(`${foreign.id} has WAL segments of another size than the archive; all WAL stays`)
  const walBefore = damaged.length > 0 || foreign ? undefined : oldestStart(staying)
  return {
    cluster: catalog.cluster,
    backups: backups.map((backup) => ({
      id: backup.id,
      stopTime: backup.stop.time,
      storedBytes: backup.storedBytes,
      stays: reasons.has(backup),
      reason: reasons.get(backup) ?? `beyond the newest ${full}`,
    })),
    walBefore,
    wal: walBefore === undefined ? [] : walToRemove(catalog, walBefore),
    warnings,
  }
}

/** Why a backup cannot be recovered, so that those before it are the ones that a recovery begins with. */
interface Fault {
  /** For the table. */
  reason: string
  /** A sentence, said of one that stays. */
  warning: string
}

function faultOf(
  backup: BackupSummary,
  { wal, walSegmentBytes }: Catalog,
  chains: Chains<BackupSummary>,
): Fault | undefined {
  const notCounted = backup.type === 'full' ? ', so not counted' : ''
  const cost = `it stays, and ${notCounted ? 'does not count as one of those that are kept' : 'cannot be recovered'}`
  const missing = chains.missingOf(backup)
  if (missing !== undefined)
    return {
      reason: `its chain is broken${notCounted}`,
      warning: `backup ${backup.id} ${brokenText(missing)}; ${cost}`,
    }
  const isReachable = !wal.some((entry) => entry.timeline === backup.timeline && lacksHistory(entry))
  if ((backup.standalone && isReachable) || hasOwnWal(backup, wal, walSegmentBytes)) return undefined
  return {
    reason: `lacks its WAL${notCounted}`,
    warning: `backup ${backup.id} lacks its own WAL; ${cost}`,
  }
}

/** Of a backup that stays by the rule. */
function recentText({ type }: BackupSummary, fault: Fault | undefined, full: number): string {
  return fault?.reason ?? `${type === 'full' ? 'one of' : 'follows one of'} the newest ${full}`
}

/** Of a backup that stays though the rule lets it go; undefined where nothing holds it. */
function heldText(
  { id }: BackupSummary,
  pins: readonly Pin[],
  locks: ReadonlyMap<string, Date>,
  damaged: Catalog['damaged'],
): string | undefined {
  const pin = pins.find(({ backup }) => backup === id)
  if (pin) return `in use: ${pin.purpose}`
  const lockedUntil = locks.get(id)
  if (lockedUntil) return `locked until ${secondOf(lockedUntil)}`
  const needing = damaged.find((unreadable) => isIncrement(unreadable) && id < unreadable.id)
  return needing && `maybe needed by ${needing.id}`
}

/** Whether a backup builds upon another one, by its id alone: upon which one, its record would tell. */
const isIncrement = ({ id }: { id: string }) => /-(?:incr|diff)$/.test(id)

/**
 * What staying backups build upon, each with the one that needs it.
 * @param staying those that stay for a reason of their own
 */
function neededBy(
  staying: readonly BackupSummary[],
  chains: Chains<BackupSummary>,
): Map<BackupSummary, BackupSummary> {
  const own = new Set(staying)
  const needed = new Map<BackupSummary, BackupSummary>()
  for (const backup of staying)
    for (const below of chains.ancestorsOf(backup)) {
      if (own.has(below) || needed.has(below)) break
      needed.set(below, backup)
    }
  return needed
}

function damagedText({ id, reason }: Catalog['damaged'][number]): string {
  const also = isIncrement({ id }) ? 'all that it may build upon, and all WAL' : 'all WAL'
  return `backup ${id} cannot be read (${reason}); it stays, and so does ${also}`
}

/** The number of the first segment that one of the backups begins with. */
function oldestStart(backups: readonly BackupSummary[]): bigint | undefined {
  const starts = backups.map(({ start, walSegmentBytes }) => segmentNumberOf(start.walFile, walSegmentBytes))
  return starts.length === 0 ? undefined : starts.reduce((least, start) => (start < least ? start : least))
}

/**
 * The order in which backups are removed: what builds upon another one goes before it, so that a crash in between leaves no
 * link without the ones below it.
 */
export function inOrderOfRemoval(
  { backups: stored }: Pick<Catalog, 'backups'>,
  { backups }: Pick<RetentionPlan, 'backups'>,
): BackupSummary[] {
  const chains = new Chains(stored)
  const heights = new Map(stored.map((backup) => [backup, chains.ancestorsOf(backup).length]))
  return stored
    .filter((_, index) => !backups[index]!.stays)
    .toSorted((a, b) => heights.get(b)! - heights.get(a)!)
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

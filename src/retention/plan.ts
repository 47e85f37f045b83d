import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { brokenText, Chains } from '../catalog/chains.ts'
import { isLogicalId } from '../catalog/layout.ts'
import type { Pin } from '../catalog/pin.ts'
import { hasOwnWal, lacksHistory, segmentNumberOf } from '../catalog/wal-ranges.ts'
import { segmentName } from '../postgres/wal-file.ts'
import { heldByOthers, type LogicalVerdict, planLogical } from './plan-logical.ts'

export interface RetentionRules {
  /**
   * How many full backups stay that can be recovered; at least one. Those that cannot be do not count, nor does what builds
   * upon them, which stays until so many full ones are newer. Without this rule all physical backups stay, and
   * all WAL.
   */
  full?: number | undefined
  /** How many logical backups of the whole cluster stay; at least one. Without this rule all of them stay. */
  logical?: number | undefined
}

/** What a retention run is going to do: computed first, shown with `--dry-run`, then carried out as it is. */
export interface RetentionPlan {
  cluster: string
  /** The physical ones. */
  backups: { id: string; stopTime: string; storedBytes: number; stays: boolean; reason: string }[]
  logical: LogicalVerdict[]
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
 * Decides which backups stay and from where on WAL is needed. What a staying backup builds upon stays too. Logical backups
 * have a rule of their own, and hold no WAL. Pure: neither clock nor storage.
 * @param pins backups that somebody is reading now
 * @param locks until when the store keeps a backup's record, by the backup's id; only of those that it still keeps
 */
export function planRetention(
  catalog: Catalog,
  rules: RetentionRules,
  pins: readonly Pin[],
  locks: ReadonlyMap<string, Date> = new Map(),
): RetentionPlan {
  const { full = Number.POSITIVE_INFINITY, logical } = rules
  if (!(full >= 1)) throw new RangeError(`a rule must keep at least one backup, not ${full}`)
  const { backups } = catalog
  const damaged = catalog.damaged.filter(({ id }) => !isLogicalId(id))
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
    ...catalog.damaged.map(damagedText),
    ...staying.filter((backup) => backup !== foreign).flatMap((backup) => faults.get(backup)?.warning ?? []),
  ]
  if (foreign) warnings.push(`${foreign.id} has WAL segments of another size than the archive; all WAL stays`)
  const keepsAllWal = rules.full === undefined || damaged.length > 0 || foreign !== undefined
  const walBefore = keepsAllWal ? undefined : oldestStart(staying)
  return {
    cluster: catalog.cluster,
    backups: backups.map((backup) => ({
      id: backup.id,
      stopTime: backup.stop.time,
      storedBytes: backup.storedBytes,
      stays: reasons.has(backup),
      reason: reasons.get(backup) ?? `beyond the newest ${full}`,
    })),
    logical: planLogical(catalog.logical, logical, ({ id }) => heldByOthers(id, pins, locks)),
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
  if (fault) return fault.reason
  if (full === Number.POSITIVE_INFINITY) return 'no rule for full backups'
  return `${type === 'full' ? 'one of' : 'follows one of'} the newest ${full}`
}

/** Of a backup that stays though the rule lets it go; undefined where nothing holds it. */
function heldText(
  { id }: BackupSummary,
  pins: readonly Pin[],
  locks: ReadonlyMap<string, Date>,
  damaged: Catalog['damaged'],
): string | undefined {
  const held = heldByOthers(id, pins, locks)
  if (held !== undefined) return held
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
  if (isLogicalId(id)) return `backup ${id} cannot be read (${reason}); it stays`
  const also = isIncrement({ id }) ? 'all that it may build upon, and all WAL' : 'all WAL'
  return `backup ${id} cannot be read (${reason}); it stays, and so does ${also}`
}

/** The number of the first segment that one of the backups begins with. */
function oldestStart(backups: readonly BackupSummary[]): bigint | undefined {
  const starts = backups.map(({ start, walSegmentBytes }) => segmentNumberOf(start.walFile, walSegmentBytes))
  return starts.length === 0 ? undefined : starts.reduce((least, start) => (start < least ? start : least))
}

/** A backup that goes; of one that builds upon another, upon which. */
export type GoingBackup = Pick<BackupSummary, 'id' | 'parent'>

/**
 * The order in which backups are removed: what builds upon another one goes before it, so that a crash in between leaves no
 * link without the ones below it. Logical ones, which nothing is built upon, come last.
 */
export function inOrderOfRemoval(
  { backups: stored, logical: storedLogical }: Pick<Catalog, 'backups' | 'logical'>,
  { backups, logical }: Pick<RetentionPlan, 'backups' | 'logical'>,
): GoingBackup[] {
  const chains = new Chains(stored)
  const heights = new Map(stored.map((backup) => [backup, chains.ancestorsOf(backup).length]))
  const physical = stored
    .filter((_, index) => !backups[index]!.stays)
    .toSorted((a, b) => heights.get(b)! - heights.get(a)!)
  return [...physical, ...storedLogical.filter((_, index) => !logical[index]!.stays)]
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

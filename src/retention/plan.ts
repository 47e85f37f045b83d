import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { Chains } from '../catalog/chains.ts'
import { damagedText, REPAIR_TEXT } from '../catalog/known-damage.ts'
import { lostText } from '../catalog/lost-records.ts'
import { firstWhere } from '../catalog/sorted-search.ts'
import type { TimelineWal, WalRun } from '../catalog/wal-ranges.ts'
import { segmentName } from '../postgres/wal-file.ts'
import { byKey } from './by-key.ts'
import { calendarClaims } from './calendar.ts'
import { futureWarnings } from './clocks.ts'
import { countClaims, minimumClaims } from './count-rules.ts'
import { type Faults, faultsOf, unreadableIn, unreadableText } from './faults.ts'
import { heldByOthers, heldByUnreadable, pinWishes, type Situation, undamaged } from './holds.ts'
import { dividedWal, foreignOf, type NeededWal, neededWal } from './needed-wal.ts'
import { type LogicalVerdict, planLogical } from './plan-logical.ts'
import { type RecoveryChange, recoveryChanges } from './recovery.ts'
import { CALENDAR_RULES, type RetentionRules, requireSound, type Wish } from './rules.ts'
import { type Stretch, stretchesOf } from './stretches.ts'
import { inWalOrder } from './wal-order.ts'
import { windowClaims } from './window.ts'

/** What becomes of a physical backup, and why. */
export interface Verdict {
  id: string
  /** When it ended, by the server's clock; ISO 8601. */
  stopTime: string
  storedBytes: number
  stays: boolean
  /** All who want it to stay; where no rule and no person does, what keeps it; nobody where it goes. */
  wishes: Wish[]
  /** For people. */
  reason: string
}

/** What a retention run is going to do: computed first, shown with `--dry-run`, then carried out as it is. */
export interface RetentionPlan {
  cluster: string
  /** The physical ones. */
  backups: Verdict[]
  logical: LogicalVerdict[]
  /** WAL segments whose number is lower go, on whatever timeline, but for `ownWal`; undefined when no WAL may go. */
  walBefore: bigint | undefined
  /** Lower ones that stay, as they make an older backup consistent. */
  ownWal: { timeline: number; first: string; last: string }[]
  /** What goes, for people. `storedBytes` is exact where a whole run goes, and in proportion where a part does. */
  wal: {
    timeline: number
    first: string
    last: string
    segments: number
    storedBytes: number
    /** Whether only a part of a run goes. */
    isShare: boolean
  }[]
  /** How much goes in all; of `backups`, both kinds. Debris is not told, and WAL as in `wal`. */
  frees: { backups: number; backupBytes: number; segments: number; walBytes: number }
  /** To where one can go back, by timelines. */
  recovery: RecoveryChange[]
  warnings: string[]
}

/**
 * Decides which backups stay and which WAL is needed. What a staying backup builds upon stays too. Logical backups
 * have a rule of their own, and hold no WAL. Pure: neither clock nor storage.
 */
export function planRetention(catalog: Catalog, rules: RetentionRules, situation: Situation): RetentionPlan {
  requireSound(rules)
  const { cluster, backups } = catalog
  const chains = new Chains(backups)
  const faults = faultsOf(catalog, chains, situation.damage)
  const stretches = stretchesOf({ ...catalog, backups: undamaged(backups, situation) })
  const wishes = allWishes(catalog, rules, situation, { faults, stretches, chains })
  const staying = backups.filter((backup) => wishes.has(backup))
  const needed = neededWal(catalog, staying, rules, situation)
  const wal = dividedWal(catalog, needed)
  const left = {
    ...catalog,
    backups: undamaged(staying, situation),
    wal: wal.map(({ timeline, stays }) => ({ ...timeline, ranges: stays })),
  }
  const verdicts = backups.map((backup) => verdictOf(backup, wishes.get(backup) ?? [], rules))
  const logical = planLogical(catalog.logical, rules.logical, situation)
  const removals = wal.flatMap(({ timeline, goes }) => goes.map((run) => removalOf(timeline, run)))
  return {
    cluster,
    backups: verdicts,
    logical,
    walBefore: needed?.from,
    ownWal: needed ? ownRuns(needed, catalog.walSegmentBytes) : [],
    wal: removals,
    frees: freedBy([...verdicts, ...logical], removals),
    recovery: recoveryChanges(catalog, stretches, left, faults),
    warnings: [...warningsOf(catalog, staying, faults, situation), ...damagedDumps(logical, situation)],
  }
}

/** Each backup that stays, with who wants it to. */
function allWishes(
  catalog: Catalog,
  rules: RetentionRules,
  situation: Situation,
  { faults, stretches, chains }: { faults: Faults; stretches: Stretch[]; chains: Chains<BackupSummary> },
): Map<BackupSummary, Wish[]> {
  const { now } = situation
  const ordered = inWalOrder(catalog.backups)
  const newestFirst = ordered.toReversed()
  const leading = new Set(stretches.flatMap(({ backups }) => backups))
  const usable = ordered.filter((backup) => leading.has(backup) || !faults.has(backup))
  const claims = [
    ...countClaims(newestFirst, faults, rules),
    ...(rules.window === undefined ? [] : windowClaims(rules.window, now, { ordered, usable, stretches })),
    ...calendarClaims(usable, rules, now),
  ]
  const wishes = byKey(claims.map(({ backup, ...wish }): [BackupSummary, Wish] => [backup, wish]))
  const pins = pinWishes(situation)
  const minimum = new Map(
    minimumClaims(newestFirst, faults, rules).map(({ backup, ...wish }) => [backup, wish]),
  )
  const unreadable = unreadableIn(catalog)
  for (const backup of ordered) {
    const wanted = [...(wishes.get(backup) ?? []), ...(pins.get(backup.id) ?? [])]
    // What nobody wants may be held all the same.
    const held =
      minimum.get(backup) ?? heldByOthers(backup.id, situation) ?? heldByUnreadable(backup.id, unreadable)
    if (wanted.length > 0) wishes.set(backup, wanted)
    else if (held) wishes.set(backup, [held])
  }
  const staying = newestFirst.filter((backup) => wishes.has(backup))
  for (const [backup, needing] of neededBy(staying, chains))
    wishes.set(backup, [{ rule: 'chain', text: `needed by ${needing.id}` }])
  return wishes
}

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
    for (
      let below = chains.parentOf(backup);
      below && !own.has(below) && !needed.has(below);
      below = chains.parentOf(below)
    )
      needed.set(below, backup)
  return needed
}

function verdictOf(backup: BackupSummary, wishes: Wish[], rules: RetentionRules): Verdict {
  const stays = wishes.length > 0
  return {
    id: backup.id,
    stopTime: backup.stop.time,
    storedBytes: backup.storedBytes,
    stays,
    wishes,
    reason: stays ? wishes.map(({ text }) => text).join('; ') : goingText(rules),
  }
}

function freedBy(
  verdicts: readonly { stays: boolean; storedBytes: number }[],
  wal: RetentionPlan['wal'],
): RetentionPlan['frees'] {
  const going = verdicts.filter(({ stays }) => !stays)
  return {
    backups: going.length,
    backupBytes: going.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
    segments: wal.reduce((sum, { segments }) => sum + segments, 0),
    walBytes: wal.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
  }
}

/** Where nothing but the number of full backups decides, that says more than that no rule wants a backup. */
function goingText(rules: RetentionRules): string {
  const others = ['diff', 'incr', 'window', ...CALENDAR_RULES] as const
  const isAlone = others.every((rule) => rules[rule] === undefined)
  return isAlone ? `beyond the newest ${rules.full}` : 'no rule wants it'
}

function warningsOf(
  catalog: Catalog,
  staying: readonly BackupSummary[],
  faults: Faults,
  { now }: Situation,
): string[] {
  const foreign = foreignOf(catalog)
  return [
    ...catalog.damaged.map(unreadableText),
    ...(catalog.lost ?? []).map(lostText),
    ...staying.filter((backup) => backup !== foreign).flatMap((backup) => faults.get(backup)?.warning ?? []),
    ...futureWarnings(staying, catalog.wal, now),
    ...(foreign ? [`${foreign.id} has WAL segments of another size than the archive; all WAL stays`] : []),
  ]
}

function damagedDumps(logical: readonly LogicalVerdict[], { damage }: Situation): string[] {
  return logical
    .filter(({ stays }) => stays)
    .flatMap(({ id }) => {
      const damaged = damage?.of({ id })
      return damaged ? [`backup ${id} ${damagedText(damaged)}; it stays; ${REPAIR_TEXT}`] : []
    })
}

function ownRuns({ own, from }: NeededWal, segmentBytes: number): RetentionPlan['ownWal'] {
  return [...own].flatMap(([timeline, spans]) =>
    spans
      .filter(({ first }) => first < from)
      .map(({ first, last }) => ({
        timeline,
        first: segmentName(timeline, first, segmentBytes),
        last: segmentName(timeline, last, segmentBytes),
      })),
  )
}

function removalOf(
  { timeline, ranges }: TimelineWal,
  { first, last, segments, storedBytes }: WalRun,
): RetentionPlan['wal'][number] {
  const whole = ranges[firstWhere(ranges, (range) => range.first >= first)]
  const isShare = whole?.first !== first || whole.last !== last
  return { timeline, first, last, segments, storedBytes, isShare }
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
  const physical = stored
    .filter((_, index) => !backups[index]!.stays)
    .toSorted((a, b) => chains.heightOf(b) - chains.heightOf(a))
  return [...physical, ...storedLogical.filter((_, index) => !logical[index]!.stays)]
}

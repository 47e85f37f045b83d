import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { Chains } from '../catalog/chains.ts'
import type { DamagedObject } from '../catalog/known-damage.ts'
import { lsn } from '../postgres/lsn.ts'
import type { TimelineHistory } from '../postgres/timeline-history.ts'
import type { RestoreQuestion } from './question.ts'
import { reachAlong } from './timeline-path.ts'

/** So many backups are named that could serve instead. */
const NAMED = 3

export interface SoundChoice {
  backup: BackupSummary
  /** What is known to be damaged of it, or of what it builds upon. */
  damage: DamagedObject | undefined
  /** Newer ones that would have been chosen, were they not damaged; oldest first. */
  passedOver: BackupSummary[]
  /** Ids of others from which the same target can be reached; the newest first. */
  instead: string[]
}

/**
 * Of the backups from which a target can be reached, takes one that is not known to be damaged; one that a person named is taken
 * as it is, and so is a damaged one where there is no other. Pure.
 * @param wanted the newest one, or the one that was asked for
 * @param fitting those that end before the target, on the way to its timeline; oldest first
 */
export function chooseSound(
  question: RestoreQuestion,
  wanted: BackupSummary,
  fitting: readonly BackupSummary[],
  path: TimelineHistory,
  { backups, wal, walSegmentBytes }: Catalog,
  damageOf: (backup: BackupSummary) => DamagedObject | undefined,
): SoundChoice {
  const endFrom = ({ start }: BackupSummary) => reachAlong(path, lsn(start.lsn), wal, walSegmentBytes).end
  const end = endFrom(wanted)
  // From before a hole in the WAL, nothing behind it is reached; but each backup has an end of its own.
  const reaches = (backup: BackupSummary) => question.target.kind === 'immediate' || endFrom(backup) === end
  const newestFirst = fitting.toReversed()
  const isSound = (backup: BackupSummary) => damageOf(backup) === undefined && reaches(backup)
  const isFree = question.backup === undefined && damageOf(wanted) !== undefined
  const backup = (isFree ? newestFirst.find(isSound) : undefined) ?? wanted
  const damage = damageOf(backup)
  const chains = new Chains(backups)
  const rootOf = (of: BackupSummary) => chains.ancestorsOf(of).at(-1) ?? of
  const root = rootOf(backup)
  // Where it turns out only later that something is damaged, that may be what others of the same chain build upon, too.
  const isOther = (other: BackupSummary) => (damage !== undefined || rootOf(other) !== root) && isSound(other)
  return {
    backup,
    damage,
    passedOver: backup === wanted ? [] : fitting.slice(fitting.indexOf(backup) + 1),
    instead: firstOf(newestFirst, isOther).map(({ id }) => id),
  }
}

/** There may be thousands, and to follow the WAL of each would take long. */
function firstOf(backups: readonly BackupSummary[], accepts: (backup: BackupSummary) => boolean) {
  const found: BackupSummary[] = []
  for (const backup of backups) {
    if (found.length === NAMED) break
    if (accepts(backup)) found.push(backup)
  }
  return found
}

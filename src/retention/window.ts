import type { BackupSummary } from '../catalog/backup-record.ts'
import { type Claim, spanText } from './rules.ts'
import type { Stretch } from './stretches.ts'
import { endOf, lastEndedBy } from './wal-order.ts'

/**
 * What `window` wants: each backup that ended within it, and of each stretch of WAL that reaches into it the newest one
 * that had ended before, without which the first moments could not be recovered. The newest of all that had ended before
 * stays also where a hole in the WAL keeps it from the window: it is what is nearest. Pure.
 * @param window milliseconds
 * @param ordered all backups, in the order of the WAL
 * @param usable those of them that can be recovered
 */
export function windowClaims(
  window: number,
  now: Date,
  {
    ordered,
    usable,
    stretches,
  }: { ordered: readonly BackupSummary[]; usable: readonly BackupSummary[]; stretches: readonly Stretch[] },
): Claim[] {
  const begin = now.getTime() - window
  const inside = ordered.filter((backup) => endOf(backup) > begin)
  const before = beginningsOf(stretches, usable, begin, now)
  return [
    ...inside.map((backup): Claim => ({ backup, rule: 'window', text: `within ${spanText(window)}` })),
    ...before.map((backup): Claim => ({ backup, rule: 'window', text: `leads into ${spanText(window)}` })),
  ]
}

/**
 * The newest backups that had ended at a moment: of each stretch that reaches beyond it, and of all.
 * @param usable in the order of the WAL
 * @param moment milliseconds since 1970
 */
export function beginningsOf(
  stretches: readonly Stretch[],
  usable: readonly BackupSummary[],
  moment: number,
  now: Date,
): BackupSummary[] {
  const ways = reachingTo(stretches, moment).map(({ backups }) => backups)
  const found = [...ways, usable].flatMap((way) => lastEndedBy(way, moment, now) ?? [])
  return [...new Set(found)]
}

/**
 * The stretches that may have a transaction which ended at a moment or later. The last one leads to the newest data, so it
 * counts however long ago that was stored; and a time that is none does not say no.
 * @param stretches by timelines
 */
export function reachingTo(stretches: readonly Stretch[], moment: number): Stretch[] {
  const newest = stretches.at(-1)
  return stretches.filter((stretch) => stretch === newest || !(Date.parse(stretch.storedUntil) < moment))
}

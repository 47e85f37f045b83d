import { isOver, type KeptPin } from '../catalog/kept-pin.ts'
import type { KnownDamage } from '../catalog/known-damage.ts'
import { isIncrementId } from '../catalog/layout.ts'
import type { Pin } from '../catalog/pin.ts'
import { byKey } from './by-key.ts'
import type { Wish } from './rules.ts'

/** What is known at the moment of a plan, beside what is stored. */
export interface Situation {
  now: Date
  /** The backups that somebody is reading, or builds upon. */
  readers: readonly Pin[]
  pinned?: readonly KeptPin[]
  /** What verifications have found. */
  damage?: KnownDamage
  /** Until when the store keeps a backup's record, by the backup's id; only of those that it still keeps. */
  locks?: ReadonlyMap<string, Date>
}

/** The backups of which no damage is known: no recovery begins with the others. */
export function undamaged<Backup extends { id: string }>(
  backups: readonly Backup[],
  { damage }: Situation,
): Backup[] {
  return backups.filter((backup) => damage?.of(backup) === undefined)
}

/** What persons want, by the backup's id. A pin that has ended wants nothing. */
export function pinWishes({ pinned = [], now }: Situation): Map<string, Wish[]> {
  return byKey(
    pinned
      .filter((pin) => !isOver(pin, now))
      .map(({ backup, until, reason }): [string, Wish] => {
        const end = until ? ` until ${secondOf(until)}` : ''
        return [backup, { rule: 'pin', text: `pinned${end}: ${reason}` }]
      }),
  )
}

/** Why a backup stays that everybody lets go: somebody reads it, or the store keeps it. */
export function heldByOthers(id: string, { readers, locks }: Situation): Wish | undefined {
  const reader = readers.find(({ backup }) => backup === id)
  if (reader) return { rule: 'reader', text: `in use: ${reader.purpose}` }
  const lockedUntil = locks?.get(id)
  return lockedUntil && { rule: 'lock', text: `locked until ${secondOf(lockedUntil)}` }
}

/** The same where it is not known what builds upon it. @param unreadable ids of those whose record cannot be read */
export function heldByUnreadable(id: string, unreadable: readonly string[]): Wish | undefined {
  const needing = unreadable.find((other) => isIncrementId(other) && id < other)
  return needing === undefined ? undefined : { rule: 'unreadable', text: `maybe needed by ${needing}` }
}

/** A moment for people, ISO 8601 without fractions. */
export function secondOf(moment: Date): string {
  return moment.toISOString().replace(/\.\d+/, '')
}

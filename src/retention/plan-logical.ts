import type { LogicalSummary } from '../catalog/logical-record.ts'
import type { Pin } from '../catalog/pin.ts'

/** What becomes of a logical backup, and why. */
export interface LogicalVerdict {
  id: string
  /** When it was complete; ISO 8601. */
  finishedAt: string
  storedBytes: number
  stays: boolean
  reason: string
}

/**
 * Decides which logical backups stay: the newest ones, and what is held. None needs WAL or another backup. Pure.
 * @param keep how many; undefined where all stay
 * @param hold why one stays that the rule lets go
 */
export function planLogical(
  logical: readonly LogicalSummary[],
  keep: number | undefined,
  hold: (backup: LogicalSummary) => string | undefined,
): LogicalVerdict[] {
  if (keep !== undefined && !(keep >= 1))
    throw new RangeError(`a rule must keep at least one logical backup, not ${keep}`)
  const isRecent = (index: number) => keep === undefined || index >= logical.length - keep
  return logical.map((backup, index) => {
    const held = isRecent(index) ? recentText(keep) : hold(backup)
    const { id, finishedAt, storedBytes } = backup
    const reason = held ?? `beyond the newest ${keep}`
    return { id, finishedAt, storedBytes, stays: held !== undefined, reason }
  })
}

const recentText = (keep: number | undefined) =>
  keep === undefined ? 'no rule for logical backups' : `one of the newest ${keep}`

/** Why a backup stays that a rule lets go: somebody reads it, or the store keeps it. */
export function heldByOthers(
  id: string,
  pins: readonly Pin[],
  locks: ReadonlyMap<string, Date>,
): string | undefined {
  const pin = pins.find(({ backup }) => backup === id)
  if (pin) return `in use: ${pin.purpose}`
  const lockedUntil = locks.get(id)
  return lockedUntil && `locked until ${secondOf(lockedUntil)}`
}

/** A moment for people, ISO 8601 without fractions. */
export function secondOf(moment: Date): string {
  return moment.toISOString().replace(/\.\d+/, '')
}

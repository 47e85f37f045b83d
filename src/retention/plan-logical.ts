import { isWhole, type LogicalSummary } from '../catalog/logical-record.ts'
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
 * Decides which logical backups stay: the newest ones, and what is held. One of a part of the cluster does not count, and
 * stays until so many whole ones are newer. None needs WAL or another backup. Pure.
 * @param logical oldest first
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
  let newer = 0
  const verdicts = logical.toReversed().map((backup) => {
    const held = keep === undefined || newer < keep ? recentText(backup, keep) : hold(backup)
    if (isWhole(backup)) newer++
    const { id, finishedAt, storedBytes } = backup
    const reason = held ?? `beyond the newest ${keep}`
    return { id, finishedAt, storedBytes, stays: held !== undefined, reason }
  })
  return verdicts.toReversed()
}

function recentText(backup: LogicalSummary, keep: number | undefined): string {
  if (keep === undefined) return 'no rule for logical backups'
  return isWhole(backup) ? `one of the newest ${keep}` : 'a part of the cluster, so not counted'
}

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

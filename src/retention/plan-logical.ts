import { isWhole, type LogicalSummary } from '../catalog/logical-record.ts'
import { heldByOthers, pinWishes, type Situation } from './holds.ts'
import type { Wish } from './rules.ts'

/** What becomes of a logical backup, and why. */
export interface LogicalVerdict {
  id: string
  /** When it was complete; ISO 8601. */
  finishedAt: string
  storedBytes: number
  stays: boolean
  /** All who want it to stay; where no rule and no person does, who holds it; nobody where it goes. */
  wishes: Wish[]
  /** For people. */
  reason: string
}

/**
 * Decides which logical backups stay: the newest ones, and what is pinned or held. One of a part of the cluster, or that is known
 * to be damaged, does not count, and stays until so many whole ones are newer. None needs WAL or another backup. Pure.
 * @param logical oldest first
 * @param keep how many; undefined where all stay
 */
export function planLogical(
  logical: readonly LogicalSummary[],
  keep: number | undefined,
  situation: Situation,
): LogicalVerdict[] {
  if (keep !== undefined && !(keep >= 1))
    throw new RangeError(`a rule must keep at least one logical backup, not ${keep}`)
  const pins = pinWishes(situation)
  let newer = 0
  const verdicts = logical.toReversed().map((backup) => {
    const { id, finishedAt, storedBytes } = backup
    const recent = keep === undefined || newer < keep ? [wishFor(backup, keep, situation)] : []
    if (isWhole(backup) && !situation.damage?.of(backup)) newer++
    const wanted = [...recent, ...(pins.get(id) ?? [])]
    const held = wanted.length > 0 ? undefined : heldByOthers(id, situation)
    const wishes = held ? [held] : wanted
    const stays = wishes.length > 0
    const reason = stays ? wishes.map(({ text }) => text).join('; ') : `beyond the newest ${keep}`
    return { id, finishedAt, storedBytes, stays, wishes, reason }
  })
  return verdicts.toReversed()
}

function wishFor(backup: LogicalSummary, keep: number | undefined, { damage }: Situation): Wish {
  if (keep === undefined) return { rule: 'none', text: 'no rule for logical backups' }
  if (damage?.of(backup)) return { rule: 'fault', text: 'known to be damaged, so not counted' }
  return isWhole(backup)
    ? { rule: 'logical', text: `one of the newest ${keep}` }
    : { rule: 'fault', text: 'a part of the cluster, so not counted' }
}

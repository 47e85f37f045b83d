import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Faults } from './faults.ts'
import { type Claim, hasBackupRule, type RetentionRules, type Wish } from './rules.ts'

/**
 * What the numbers `full`, `diff` and `incr` want. What cannot be recovered does not count, and stays until as many full
 * ones are newer as are to stay in any case. Pure.
 * @param newestFirst in the order of the WAL
 */
export function countClaims(
  newestFirst: readonly BackupSummary[],
  faults: Faults,
  rules: RetentionRules,
): Claim[] {
  const full = hasBackupRule(rules) ? (rules.full ?? 0) : Number.POSITIVE_INFINITY
  const floor = Math.max(full, rules.minimum ?? 1)
  const newer = { full: 0, diff: 0, incr: 0 }
  const claims: Claim[] = []
  for (const backup of newestFirst) {
    const { type } = backup
    const fault = faults.get(backup)
    if (fault) {
      if (newer.full < floor) claims.push({ backup, rule: 'fault', text: fault.reason })
      continue
    }
    const limit = type === 'full' ? full : (rules[type] ?? Number.POSITIVE_INFINITY)
    if (newer.full < full && newer[type] < limit) claims.push({ backup, ...wishOf(type, limit, full) })
    newer[type]++
  }
  return claims
}

function wishOf(type: BackupSummary['type'], limit: number, full: number): Wish {
  if (full === Number.POSITIVE_INFINITY) return { rule: 'none', text: 'no rule for full backups' }
  if (type === 'full') return { rule: 'full', text: `one of the newest ${full}` }
  if (limit === Number.POSITIVE_INFINITY) return { rule: 'full', text: `follows one of the newest ${full}` }
  const ones = type === 'diff' ? 'differential ones' : 'incremental ones'
  return { rule: type, text: `one of the newest ${limit} ${ones}` }
}

/**
 * The full backups that never go. It is the order of the WAL that says which are the newest, so no clock can take them
 * away. Pure.
 */
export function minimumClaims(
  newestFirst: readonly BackupSummary[],
  faults: Faults,
  { minimum = 1 }: RetentionRules,
): Claim[] {
  const text = minimum === 1 ? 'the newest full one never goes' : `the newest ${minimum} full ones never go`
  return newestFirst
    .filter((backup) => backup.type === 'full' && !faults.has(backup))
    .slice(0, minimum)
    .map((backup): Claim => ({ backup, rule: 'minimum', text }))
}

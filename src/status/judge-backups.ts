import { brokenText } from '../catalog/chains.ts'
import { isBackupId } from '../catalog/layout.ts'
import { formatAge, formatCount } from '../cli/units.ts'
import type { Finding, RepositoryFacts, StoredBackup } from './facts.ts'
import { severityAbove, type Thresholds, worstOf } from './thresholds.ts'
import type { UnusableBackup } from './windows.ts'

/** What of the backups can be recovered, and how old the newest ones are. Pure. */
export function judgeBackups(facts: RepositoryFacts, limits: Thresholds): Finding[] {
  const { newestBackup, unusable, damagedRecords, damagedPages } = facts
  const findings: Finding[] = []
  const add = (severity: Finding['severity'], text: string, hint?: string) =>
    findings.push({ severity, subject: 'backups', text, ...(hint && { hint }) })
  judgeAge(facts, limits, add)
  for (const lacking of unusable)
    add('fail', `backup ${lacking.id} cannot be recovered: ${lackText(lacking)}`, hintFor(lacking))
  for (const { id, reason } of damagedRecords) add('fail', `backup ${id} cannot be read: ${reason}`)
  for (const { id, pages } of damagedPages) {
    const isNewest = id === newestBackup?.id
    add(
      isNewest ? 'fail' : 'warn',
      `backup ${id} has ${formatCount(pages, 'damaged page')}`,
      `pgrecall show ${id}`,
    )
  }
  return findings
}

type Add = (severity: Finding['severity'], text: string, hint?: string) => void

/** Where there are physical backups, a dump is often taken once, and meant to get old. */
function judgeAge(facts: RepositoryFacts, limits: Thresholds, add: Add): void {
  const { newestBackup, newestFull, newestLogical } = facts
  const ageOf = ({ id, ageSeconds }: StoredBackup) => `${id}, is ${formatAge(1000 * ageSeconds)} old`
  const severityOf = ({ ageSeconds }: StoredBackup) => severityAbove(ageSeconds, limits.backupAge)
  if (newestBackup) {
    const full =
      newestFull && newestFull.id !== newestBackup.id ? `; the newest full one, ${ageOf(newestFull)}` : ''
    add(severityOf(newestBackup), `the newest backup, ${ageOf(newestBackup)}${full}`)
  } else if (newestLogical)
    add('warn', 'there is no physical backup, so only what was dumped can be restored', 'pgrecall backup')
  else add('fail', 'there is no backup, so nothing can be recovered', 'pgrecall backup')
  if (newestLogical) {
    const own = severityAbove(newestLogical.ageSeconds, limits.logicalBackupAge)
    const severity = newestBackup ? own : worstOf([own, severityOf(newestLogical)])
    add(severity, `the newest logical backup, ${ageOf(newestLogical)}`)
  }
  const full = newestFull ? severityAbove(newestFull.ageSeconds, limits.fullBackupAge) : 'ok'
  if (full !== 'ok') add(full, `the newest full backup, ${ageOf(newestFull!)}`, 'pgrecall backup --type full')
}

function hintFor({ missing, reason }: UnusableBackup): string | undefined {
  if (reason !== undefined) return 'pgrecall verify --repair, or pgrecall backup'
  // A new backup would lie on the same lost timeline; what helps is said of its history.
  return missing.endsWith('.history') ? undefined : 'pgrecall backup'
}

function lackText({ missing, reason }: UnusableBackup): string {
  if (reason !== undefined) return `${missing} is damaged: ${reason}`
  if (isBackupId(missing)) return `it ${brokenText(missing)}`
  return missing.endsWith('.history')
    ? "its timeline's history is lost"
    : `its WAL segment ${missing} is missing`
}

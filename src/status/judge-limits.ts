import { formatAge, formatBytes, formatCount } from '../cli/units.ts'
import type { Finding, RepositoryFacts } from './facts.ts'
import { severityAbove, severityBelow, type Thresholds, worstOf } from './thresholds.ts'

type Severity = Finding['severity']

/** What would be lost, whether it was verified, and how long there is room. Pure. */
export function judgeLimits(facts: RepositoryFacts, limits: Thresholds): Finding[] {
  return [...judgeRpo(facts, limits), ...judgeVerified(facts, limits), ...judgeSpace(facts, limits)]
}

/** Where nothing can be recovered, that is said already. */
function judgeRpo({ rpo }: RepositoryFacts, limits: Thresholds): Finding[] {
  if (!rpo) return []
  const severity = severityAbove(rpo.seconds, limits.rpo)
  if (severity === 'ok') return []
  const unasked = rpo.basis === 'archive' ? '; the server did not tell whether it has written since' : ''
  const text = `if this host died now, the last ${formatAge(1000 * rpo.seconds)} of commits would be lost${unasked}`
  return [{ severity, subject: 'RPO', text, hint: 'set archive_timeout, or run pgrecall wal-receive' }]
}

function judgeVerified(
  { verified, newestBackup, newestLogical }: RepositoryFacts,
  limits: Thresholds,
): Finding[] {
  // What was never stored cannot be verified.
  if (!newestBackup && !newestLogical) return []
  const findings: Finding[] = []
  const add = (severity: Severity, text: string, hint: string) =>
    severity !== 'ok' && findings.push({ severity, subject: 'verification', text, hint })
  const damaged = verified?.damaged ?? []
  if (damaged.length > 0) {
    const more = damaged.length > 1 ? `, and ${formatCount(damaged.length - 1, 'more object')} with it` : ''
    add(
      'fail',
      `${damaged[0]!.key} is damaged${more}: ${damaged[0]!.reason}`,
      damaged[0]!.isContent ? 'pgrecall verify --decode' : 'pgrecall verify',
    )
  }
  const { lastRestore, lastProvenRestore } = verified ?? {}
  if (lastRestore?.outcome === 'failed')
    add(
      'fail',
      `the last restore that was tried, of ${lastRestore.backup}, failed`,
      'pgrecall verify --restore',
    )
  const isRead = verified != null && verified.ageSeconds !== null && verified.neverBytes === 0
  const age = isRead ? verified.ageSeconds! : Number.POSITIVE_INFINITY
  const what = isRead
    ? `there is an object that was verified ${formatAge(1000 * age)} ago, and not since`
    : verified?.ageSeconds == null
      ? 'nothing was verified'
      : `${formatBytes(verified.neverBytes)} of ${formatBytes(verified.bytes)} were never verified`
  add(severityAbove(age, limits.verificationAge), what, 'pgrecall verify')
  const proven = lastProvenRestore?.ageSeconds ?? Number.POSITIVE_INFINITY
  const since = lastProvenRestore
    ? `the last proven restore, of ${lastProvenRestore.backup}, is ${formatAge(1000 * proven)} ago`
    : 'no restore was ever proven'
  add(severityAbove(proven, limits.provenRestoreAge), since, 'pgrecall verify --restore')
  return findings
}

/** There will be a full backup again, however small the ones between are. */
function judgeSpace(facts: RepositoryFacts, limits: Thresholds): Finding[] {
  const { freeBytes, fullInSeconds, newestBackup, newestFull } = facts
  if (freeBytes === null) return []
  const largest = newestFull ?? newestBackup
  const isTight = largest !== null && freeBytes < largest.storedBytes
  const filling = fullInSeconds === null ? 'ok' : severityBelow(fullInSeconds, limits.repositoryFull)
  const severity = worstOf([isTight ? 'warn' : 'ok', severityBelow(freeBytes, limits.freeBytes), filling])
  const tight = isTight ? ', less than the newest full backup takes' : ''
  const soon =
    filling === 'ok'
      ? ''
      : `; as it grew in the last days, it is full in ${formatAge(1000 * fullInSeconds!)}, unless something is removed`
  const text = `${formatBytes(freeBytes)} are free in the repository${tight}${soon}`
  const hint = 'pgrecall retention, or a larger disk'
  return [{ severity, subject: 'space', text, ...(severity !== 'ok' && { hint }) }]
}

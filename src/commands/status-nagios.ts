import { formatAge } from '../cli/units.ts'
import type { RepositoryFacts } from '../status/facts.ts'
import { mostLost } from '../status/rpo.ts'
import { type Threshold, worstOf } from '../status/thresholds.ts'
import { type ClusterStatus, type PlacedFinding, placedFindings, problemsIn } from './status-answers.ts'

/** A plugin's answer. The numbers are those of the plugin's interface, and none of pgrecall's own. */
export const PLUGIN_STATES = {
  ok: { word: 'OK', code: 0 },
  warn: { word: 'WARNING', code: 1 },
  fail: { word: 'CRITICAL', code: 2 },
} as const

/**
 * What a plugin of Nagios and Icinga says: one line with the state, a sentence and figures, then a line for each thing that is wrong.
 * @see https://nagios-plugins.org/doc/guidelines.html
 */
export function nagiosAnswer(clusters: readonly ClusterStatus[]): { text: string; exitCode: number } {
  const findings = placedFindings(clusters)
  const { word, code } = PLUGIN_STATES[worstOf(findings.map(({ severity }) => severity))]
  const problems = problemsIn(findings)
  const [first, ...others] = problems
  const more = others.length > 0 ? ` (and ${others.length} more)` : ''
  const said = first ? `${sentence(first)}${more}` : wellText(clusters)
  const head = `${word} - ${plain(said)} | ${figures(clusters).join(' ')}`
  const lines = problems.map((each) => {
    const mend = each.hint ? ` (${each.hint})` : ''
    return plain(`${PLUGIN_STATES[each.severity].word}: ${sentence(each)}${mend}`)
  })
  return { text: [head, ...lines].join('\n'), exitCode: code }
}

const sentence = ({ cluster, repository, text }: PlacedFinding) =>
  `${cluster}${repository === undefined ? '' : `/${repository}`}: ${text}`

/** A bar begins the figures, and a line ends the sentence. */
const plain = (text: string) => text.replace(/\s+/g, ' ').replaceAll('|', '/')

function wellText(clusters: readonly ClusterStatus[]): string {
  return clusters
    .flatMap(({ cluster, status }) =>
      status.repositories.map(({ facts: { repository, newestBackup, newestLogical, rpo } }) => {
        const backup = newestBackup ?? newestLogical!
        const loss = rpo && (rpo.since === null ? 'no commit' : mostLost(rpo))
        return `${cluster}/${repository}: last backup ${formatAge(1000 * backup.ageSeconds)} ago${loss ? `, ${loss} would be lost` : ''}`
      }),
    )
    .join('; ')
}

/** `'label'=value[UOM];[warn];[crit];[min]`; a bound with a colon behind it is one from which on less is worse. */
function figures(clusters: readonly ClusterStatus[]): string[] {
  return clusters.flatMap(({ cluster, status, limits }) => [
    ...status.repositories.flatMap(({ facts }) => {
      const figure = figureOf(`${cluster}/${facts.repository}`)
      return [
        ...figure('backup_age', ageOf(facts), 's', limits.backupAge),
        ...figure('full_backup_age', facts.newestFull?.ageSeconds, 's', limits.fullBackupAge),
        ...figure('rpo', facts.rpo?.seconds, 's', limits.rpo),
        ...figure('restore', facts.restore?.seconds, 's', {}),
        ...figure('growth_per_day', facts.growth?.storedBytesPerDay, 'B', {}),
        ...figure('free', facts.freeBytes, 'B', limits.freeBytes, true),
        ...figure('full_in', facts.fullInSeconds, 's', limits.repositoryFull, true),
        ...figure('verification_age', facts.verified?.ageSeconds, 's', limits.verificationAge),
      ]
    }),
    ...figureOf(cluster)('wal_waiting', status.server.waiting?.segments, '', {}),
    ...figureOf(cluster)('wal_disk_free', status.server.walDisk?.freeBytes, 'B', {}),
  ])
}

const ageOf = ({ newestBackup, newestLogical }: RepositoryFacts) =>
  (newestBackup ?? newestLogical)?.ageSeconds

const figureOf =
  (subject: string) =>
  (
    what: string,
    value: number | null | undefined,
    unit: 's' | 'B' | '',
    { warn, fail }: Threshold,
    lessIsWorse = false,
  ): string[] => {
    if (value == null) return []
    const bound = (limit: number | undefined) =>
      limit === undefined ? '' : `${limit}${lessIsWorse ? ':' : ''}`
    return [`'${subject}/${what}'=${Math.round(value)}${unit};${bound(warn)};${bound(fail)};0`]
  }

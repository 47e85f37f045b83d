import { type MetricFamily, renderExposition, type Sample } from '../cli/exposition.ts'
import type { Finding, RepositoryFacts, ServerFacts, StoredBackup } from '../status/facts.ts'
import { worstOf } from '../status/thresholds.ts'
import type { ClusterStatus } from './status-answers.ts'

/** What a metric says of one repository or server: a value, or several by a label; what is not known is left out. */
type Value = number | boolean | null | undefined
interface Metric<Facts> {
  name: string
  help: string
  /** The label by which `values` has keys. */
  by?: string
  value: (facts: Facts, findings: readonly Finding[]) => Value | Record<string, Value>
}

const DAY_SECONDS = 24 * 60 * 60
const secondsOf = (iso: string | undefined | null) => (iso ? Date.parse(iso) / 1000 : undefined)
const countOf = (findings: readonly Finding[], wanted: Finding['severity']) =>
  findings.filter(({ severity }) => severity === wanted).length
const findingCounts = (findings: readonly Finding[]) => ({
  warn: countOf(findings, 'warn'),
  fail: countOf(findings, 'fail'),
})
const STATES = { ok: 0, warn: 1, fail: 2 }
const stateOf = (findings: readonly Finding[]) => STATES[worstOf(findings.map(({ severity }) => severity))]

const newestOf = (facts: RepositoryFacts, of: (backup: StoredBackup) => Value) => ({
  physical: facts.newestBackup && of(facts.newestBackup),
  full: facts.newestFull && of(facts.newestFull),
  logical: facts.newestLogical && of(facts.newestLogical),
})
const windowOf = ({ windows, currentTimeline }: RepositoryFacts) =>
  windows.findLast(({ timeline }) => timeline === currentTimeline)

/** The names are documented in docs/monitoring.md, and stay. */
export const REPOSITORY_METRICS: Metric<RepositoryFacts>[] = [
  {
    name: 'pgrecall_repository_state',
    help: 'The worst that there is to say of a cluster in a repository: 0 ok, 1 warn, 2 fail.',
    value: (_facts, findings) => stateOf(findings),
  },
  {
    name: 'pgrecall_repository_findings',
    help: 'How many findings there are, by severity.',
    by: 'severity',
    value: (_facts, findings) => findingCounts(findings),
  },
  {
    name: 'pgrecall_repository_readable',
    help: 'Whether the repository could be read (1) or not (0).',
    value: ({ error }) => error === null,
  },
  {
    name: 'pgrecall_last_backup_timestamp_seconds',
    help: 'When the newest backup ended, or a logical one began: physical is any that is not logical.',
    by: 'kind',
    value: (facts) => newestOf(facts, ({ time }) => secondsOf(time)),
  },
  {
    name: 'pgrecall_last_backup_stored_bytes',
    help: 'What the newest backup takes in the repository.',
    by: 'kind',
    value: (facts) => newestOf(facts, ({ storedBytes }) => storedBytes),
  },
  {
    name: 'pgrecall_backups',
    help: 'How many backups are stored.',
    by: 'kind',
    value: ({ stored }) => stored && { physical: stored.backups, logical: stored.logical },
  },
  {
    name: 'pgrecall_stored_bytes',
    help: 'What is stored of the cluster.',
    by: 'kind',
    value: ({ stored }) =>
      stored && { physical: stored.backupBytes, logical: stored.logicalBytes, wal: stored.walBytes },
  },
  {
    name: 'pgrecall_stored_growth_bytes_per_second',
    help: 'What was stored in the last days, seven at most; what retention removed is not taken off.',
    by: 'kind',
    value: ({ growth }) =>
      growth && {
        physical: growth.backupBytesPerDay / DAY_SECONDS,
        logical: growth.logicalBytesPerDay / DAY_SECONDS,
        wal: growth.walBytesPerDay / DAY_SECONDS,
      },
  },
  {
    name: 'pgrecall_cluster_growth_bytes_per_second',
    help: 'How fast the cluster itself grows, by its backups.',
    value: ({ growth }) =>
      growth?.clusterBytesPerDay == null ? null : growth.clusterBytesPerDay / DAY_SECONDS,
  },
  {
    name: 'pgrecall_repository_free_bytes',
    help: 'What can still be written into the repository; not known of a bucket.',
    value: ({ freeBytes }) => freeBytes,
  },
  {
    name: 'pgrecall_repository_full_seconds',
    help: 'Until the repository is full at the growth of the last days, if nothing is removed.',
    value: ({ fullInSeconds }) => fullInSeconds,
  },
  {
    name: 'pgrecall_recoverable_from_timestamp_seconds',
    help: 'The first moment of the newest recoverable window of the current timeline.',
    value: (facts) => secondsOf(windowOf(facts)?.from.time),
  },
  {
    name: 'pgrecall_recoverable_to_timestamp_seconds',
    help: 'The last commit of that window.',
    value: (facts) => secondsOf(windowOf(facts)?.to.time),
  },
  {
    name: 'pgrecall_recoverable_windows',
    help: 'How many recoverable windows there are, on all timelines.',
    value: ({ error, windows }) => (error === null ? windows.length : null),
  },
  {
    name: 'pgrecall_wal_gaps',
    help: 'Holes in the archive that end a recoverable window.',
    value: ({ error, gaps }) => (error === null ? gaps.filter(({ cuts }) => cuts.length > 0).length : null),
  },
  {
    name: 'pgrecall_rpo_seconds',
    help: 'Seconds of commits that would be lost if the host died now, at most.',
    value: ({ rpo }) => rpo?.seconds,
  },
  {
    name: 'pgrecall_unstored_wal_bytes',
    help: 'WAL that the server has written and the repository does not have.',
    value: ({ rpo }) => rpo?.unstoredBytes,
  },
  {
    name: 'pgrecall_archive_behind_segments',
    help: 'Whole segments that the server is ahead of the archive.',
    value: ({ archived }) => archived?.behindSegments,
  },
  {
    name: 'pgrecall_archive_stored_timestamp_seconds',
    help: 'When the newest segment of the current timeline was stored.',
    value: ({ archived }) => secondsOf(archived?.storedAt),
  },
  {
    name: 'pgrecall_restore_estimate_seconds',
    help: 'The expected time to have the newest backup back, brought up to the end of the archive.',
    value: ({ restore }) => restore?.seconds,
  },
  {
    name: 'pgrecall_restore_measured',
    help: 'Whether that comes from the rates of restores (1) or of backups (0).',
    value: ({ restore }) => restore && restore.copy.basis === 'restores',
  },
  {
    name: 'pgrecall_verified_timestamp_seconds',
    help: 'When the object was read whose last verification is longest ago.',
    value: ({ verified }) => secondsOf(verified?.oldestAt),
  },
  {
    name: 'pgrecall_never_verified_bytes',
    help: 'What was never read and found sound.',
    value: ({ verified }) => verified?.neverBytes,
  },
  {
    name: 'pgrecall_damaged_objects',
    help: 'What was found damaged, and not mended since.',
    value: ({ verified }) => verified?.damaged.length,
  },
  {
    name: 'pgrecall_proven_restore_timestamp_seconds',
    help: 'When a restore was last proven.',
    value: ({ verified }) => secondsOf(verified?.lastProvenRestore?.finishedAt),
  },
]

export const SERVER_METRICS: Metric<ServerFacts>[] = [
  {
    name: 'pgrecall_server_state',
    help: 'The worst that there is to say of the server and its archiver: 0 ok, 1 warn, 2 fail.',
    value: (_facts, findings) => stateOf(findings),
  },
  {
    name: 'pgrecall_server_findings',
    help: 'How many findings there are about the server, by severity.',
    by: 'severity',
    value: (_facts, findings) => findingCounts(findings),
  },
  {
    name: 'pgrecall_server_reachable',
    help: 'Whether the server could be asked (1) or not (0).',
    value: ({ reachable }) => reachable,
  },
  {
    name: 'pgrecall_wal_waiting_segments',
    help: 'Segments that wait to be archived.',
    value: ({ waiting }) => waiting?.segments,
  },
  {
    name: 'pgrecall_wal_waiting_seconds',
    help: 'How long the oldest of them waits.',
    value: ({ waiting }) => waiting && (waiting.oldest?.ageSeconds ?? 0),
  },
  {
    name: 'pgrecall_wal_received',
    help: 'Whether somebody receives through the replication slot (1) or not (0); absent without a slot.',
    value: ({ slot }) => slot?.active,
  },
  {
    name: 'pgrecall_wal_disk_free_bytes',
    help: 'What is free on the disk of pg_wal.',
    value: ({ walDisk }) => walDisk?.freeBytes,
  },
  {
    name: 'pgrecall_wal_disk_full_seconds',
    help: 'Until pg_wal fills its disk, while archiving fails or is late.',
    value: ({ fullInSeconds }) => fullInSeconds,
  },
]

/** Everything that is known, as Prometheus reads it. @param now when it was looked at */
export function prometheusText(clusters: readonly ClusterStatus[], now: Date): string {
  const repositories = clusters.flatMap(({ cluster, status }) =>
    status.repositories.map(({ facts, findings }) => ({
      labels: { cluster, repository: facts.repository },
      facts,
      findings,
    })),
  )
  const servers = clusters.map(({ cluster, status }) => ({
    labels: { cluster },
    facts: status.server,
    findings: status.findings,
  }))
  return renderExposition([
    {
      name: 'pgrecall_status_timestamp_seconds',
      help: 'When this was looked at.',
      samples: [{ labels: {}, value: now.getTime() / 1000 }],
    },
    ...REPOSITORY_METRICS.map((metric) => familyOf(metric, repositories)),
    ...SERVER_METRICS.map((metric) => familyOf(metric, servers)),
  ])
}

interface Subject<Facts> {
  labels: Record<string, string>
  facts: Facts
  findings: readonly Finding[]
}

function familyOf<Facts>(
  { name, help, by, value }: Metric<Facts>,
  subjects: readonly Subject<Facts>[],
): MetricFamily {
  const samples = subjects.flatMap(({ labels, facts, findings }): Sample[] => {
    const said = value(facts, findings)
    if (by === undefined || typeof said !== 'object' || said === null) return sampleOf(labels, said as Value)
    return Object.entries(said).flatMap(([key, part]) => sampleOf({ ...labels, [by]: key }, part))
  })
  return { name, help, samples }
}

const sampleOf = (labels: Record<string, string>, value: Value): Sample[] =>
  value === null || value === undefined ? [] : [{ labels, value: Number(value) }]

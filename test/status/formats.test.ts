import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { renderExposition } from '../../src/cli/exposition.ts'
import type { ClusterStatus } from '../../src/commands/status-answers.ts'
import { nagiosAnswer } from '../../src/commands/status-nagios.ts'
import { prometheusText, REPOSITORY_METRICS, SERVER_METRICS } from '../../src/commands/status-prometheus.ts'
import type { Finding, RepositoryFacts } from '../../src/status/facts.ts'
import { THRESHOLDS, thresholdsWith } from '../../src/status/thresholds.ts'
import { lintsOf, parseExposition } from './exposition.ts'
import { repositoryFacts, serverFacts, waitingFor } from './facts.ts'

const NOW = new Date('2026-11-20T13:00:00Z')

/** All that can be known is. */
const FULL: Partial<RepositoryFacts> = {
  windows: [
    {
      timeline: 1,
      from: { backup: 'a', time: '2026-11-20T12:00:30Z', lsn: '0/A001000' },
      to: { time: '2026-11-20T12:59:00.5Z', lsn: '0/B000028', isExact: true },
      backups: ['a'],
      cutBy: null,
    },
  ],
  newestFull: { id: 'a', time: '2026-11-20T12:00:30Z', ageSeconds: 3600, storedBytes: 1000 },
  newestLogical: { id: 'b', time: '2026-11-20T11:00:00Z', ageSeconds: 7200, storedBytes: 10 },
  rpo: { seconds: 12, since: '2026-11-20T12:59:48Z', unstoredBytes: 4096, basis: 'server' },
  restore: {
    backup: 'a',
    seconds: 90,
    copy: { bytes: 1, bytesPerSecond: 1, basis: 'restores', samples: 1 },
    replay: null,
  },
  stored: { backups: 1, backupBytes: 1000, logical: 1, logicalBytes: 10, walSegments: 2, walBytes: 20 },
  growth: {
    days: 2,
    backupBytesPerDay: 86_400,
    logicalBytesPerDay: 0,
    walBytesPerDay: 864,
    storedBytesPerDay: 87_264,
    clusterBytesPerDay: -86_400,
  },
  fullInSeconds: 4000,
  verified: {
    updatedAt: '2026-11-20T12:30:00Z',
    oldestAt: '2026-11-19T13:00:00Z',
    ageSeconds: 86_400,
    bytes: 1030,
    neverBytes: 0,
    damaged: [],
    lastRestore: null,
    lastProvenRestore: {
      backup: 'a',
      finishedAt: '2026-11-20T12:00:00Z',
      outcome: 'proven',
      ageSeconds: 3600,
    },
  },
}
const SERVER = serverFacts({
  waiting: waitingFor(20),
  slot: { name: 'pgrecall', active: true },
  walBytesPerSecond: 1,
  fullInSeconds: 1000,
})

function clusterOf(
  facts: Partial<RepositoryFacts>,
  findings: Finding[] = [],
  of: { cluster?: string; ofServer?: Finding[] } = {},
): ClusterStatus {
  const repositories = [{ facts: repositoryFacts(facts), findings }]
  const status = { server: SERVER, findings: of.ofServer ?? [], repositories }
  return { cluster: of.cluster ?? 'main', status, limits: THRESHOLDS }
}
const WARN: Finding = { severity: 'warn', subject: 'WAL', text: 'a | b', hint: 'pgrecall check' }
const FAIL: Finding = { severity: 'fail', subject: 'backups', text: 'there is no backup' }

describe('the text format of Prometheus', () => {
  const text = prometheusText([clusterOf(FULL, [WARN]), clusterOf({}, [FAIL], { cluster: 'other' })], NOW)
  const { samples, help, types } = parseExposition(text)
  const value = (name: string, labels: Record<string, string> = {}) =>
    samples.find(
      (sample) =>
        sample.name === name &&
        Object.entries({ cluster: 'main', ...labels }).every(([key, said]) => sample.labels[key] === said),
    )?.value

  test('is read back by a strict reader, and promtool has nothing to complain of', () => {
    const names = [...new Set(samples.map(({ name }) => name))]
    expect(names.flatMap((name) => lintsOf(name, help.get(name), types.get(name)))).toEqual([])
    expect(new Set(types.values())).toEqual(new Set(['gauge']))
  })

  test('has every metric where everything is known, and each stands in the documentation', () => {
    const names = [
      'pgrecall_status_timestamp_seconds',
      ...[...REPOSITORY_METRICS, ...SERVER_METRICS].map(({ name }) => name),
    ]
    expect([...new Set(samples.map(({ name }) => name))].toSorted()).toEqual(names.toSorted())
    const page = readFileSync(new URL('../../docs/monitoring.md', import.meta.url), 'utf8')
    expect(names.filter((name) => !page.includes(`\`${name}\``))).toEqual([])
    const documented = [...page.matchAll(/`(pgrecall_\w+)`/g)].map(([, name]) => name!)
    expect(documented.filter((name) => !names.includes(name))).toEqual([])
    const used = [...page.matchAll(/\b(pgrecall_\w+)/g)].map(([, name]) => name!)
    expect(used.filter((name) => !names.includes(name))).toEqual([])
  })

  test('tells base units: seconds, bytes, moments as seconds since 1970', () => {
    expect(value('pgrecall_last_backup_timestamp_seconds', { kind: 'logical' })).toBe(
      Date.parse('2026-11-20T11:00:00Z') / 1000,
    )
    expect(value('pgrecall_stored_growth_bytes_per_second', { kind: 'physical' })).toBe(1)
    expect(value('pgrecall_cluster_growth_bytes_per_second')).toBe(-1)
    expect(value('pgrecall_rpo_seconds')).toBe(12)
    expect(value('pgrecall_repository_state', { cluster: 'other' })).toBe(2)
    expect(value('pgrecall_repository_findings', { severity: 'warn', repository: 'local' })).toBe(1)
  })

  test('what is not known has no series, and a repository that cannot be read says so', () => {
    expect(value('pgrecall_rpo_seconds', { cluster: 'other' })).toBeUndefined()
    expect(
      value('pgrecall_last_backup_timestamp_seconds', { cluster: 'other', kind: 'full' }),
    ).toBeUndefined()
    const away = parseExposition(prometheusText([clusterOf({ error: 'gone' }, [FAIL])], NOW)).samples
    expect(away.find(({ name }) => name === 'pgrecall_repository_readable')!.value).toBe(0)
    expect(away.some(({ name }) => name === 'pgrecall_wal_gaps')).toBe(false)
  })

  test('labels are escaped, and what is not finite is left out', () => {
    const odd = 'a"b\\c\nd'
    const family = { name: 'x', help: 'a\\b\nc', samples: [{ labels: { odd }, value: 1e21 }] }
    const parsed = parseExposition(renderExposition([family]))
    expect(parsed.samples).toEqual([{ name: 'x', labels: { odd }, value: 1e21 }])
    expect(parsed.help.get('x')).toBe('a\\b\nc')
    const values = [Number.NaN, Number.POSITIVE_INFINITY].map((each) => ({ labels: {}, value: each }))
    expect(renderExposition([{ name: 'x', help: 'y', samples: values }])).toBe('')
  })
})

describe('the answer of a plugin', () => {
  const headOf = (clusters: ClusterStatus[]) => nagiosAnswer(clusters).text.split('\n')[0]!

  test.each([
    [
      'all is well',
      [],
      0,
      /^OK - main\/local: last backup 1 h ago, at most 12 s of commits would be lost \| '/,
    ],
    ['a warning', [WARN], 1, /^WARNING - main\/local: a \/ b \| '/],
    ['a failure', [WARN, FAIL], 2, /^CRITICAL - main\/local: there is no backup \(and 1 more\) \| '/],
  ])('%s', (_what, findings, code, head) => {
    const answer = nagiosAnswer([clusterOf(FULL, findings)])
    expect(answer.exitCode).toBe(code)
    expect(answer.text.split('\n')[0]!).toMatch(head)
    expect(answer.text.split('\n')).toHaveLength(1 + findings.length)
  })

  test('the worst of all clusters and servers decides, and more lines say each with its mend', () => {
    const { text, exitCode } = nagiosAnswer([
      clusterOf(FULL, [WARN]),
      clusterOf(FULL, [], { cluster: 'other', ofServer: [FAIL] }),
    ])
    expect(exitCode).toBe(2)
    expect(text.split('\n').slice(1)).toEqual([
      'CRITICAL: other: there is no backup',
      'WARNING: main/local: a / b (pgrecall --cluster main check)',
    ])
  })

  test('the figures are what plugins give: label, value, unit and bounds', () => {
    const figures = headOf([clusterOf(FULL)])
      .split(' | ')[1]!
      .split(' ')
    for (const figure of figures) expect(figure).toMatch(/^'[^'=]+'=-?\d+(?:s|B|);\d*:?;\d*:?;0$/)
    expect(figures).toContain(`'main/local/backup_age'=3600s;${8 * 86_400};${15 * 86_400};0`)
    expect(figures).toContain(`'main/local/full_in'=4000s;${72 * 3600}:;${24 * 3600}:;0`)
    const limits = thresholdsWith({ rpo: { warn: 60, fail: 3600 } })
    expect(headOf([{ ...clusterOf(FULL), limits }])).toContain(`'main/local/rpo'=12s;60;3600;0`)
  })

  test('a repository without backups has no figures of them, and no plugin stumbles', () => {
    const answer = nagiosAnswer([clusterOf({ newestBackup: null, freeBytes: null }, [FAIL])])
    expect(answer.text.split('\n')[0]).toMatch(
      /^CRITICAL - .* \| 'main\/wal_waiting'=3;;;0 'main\/wal_disk_free'=1000B;;;0$/,
    )
  })
})

import type { Catalog } from '../../src/catalog/catalog.ts'
import { assembleRepository } from '../../src/report/assemble.ts'
import { Clock } from '../../src/report/clock.ts'
import type { ClusterReport, Report } from '../../src/report/facts.ts'
import { spansOfCatalog } from '../../src/report/recoverable.ts'
import type { RetentionRules } from '../../src/retention/rules.ts'
import type { Finding, Window } from '../../src/status/facts.ts'
import { growthOf } from '../../src/status/growth.ts'
import { judgeRepository, judgeServer } from '../../src/status/judge.ts'
import { restoreEstimate } from '../../src/status/restore-estimate.ts'
import { stretchesOf } from '../../src/status/windows.ts'
import { repositoryFacts, serverFacts } from '../status/facts.ts'
import { DAY, GIB, MadeUpCluster, weeks } from './sample.ts'

const RULES: RetentionRules = { full: 4, window: 7 * DAY, monthly: 6, logical: 4 }
const ZONE = 'Europe/Berlin'
const BEGIN = new Date('2026-08-30T00:30:00Z')

/** A report of three clusters: one that has gone through much, one in which all is well, and one that is new. */
export function sampleReport({ name = 'shop', label = 'before the migration' } = {}): Report {
  const { catalog, now } = eventful(name, label)
  const calm = new MadeUpCluster('billing', new Date(now.getTime() - 28 * DAY), 38 * GIB, 40 * 60_000)
  weeks(calm, 4)
  const checks: Finding[] = [
    {
      severity: 'warn',
      subject: 'checksums',
      text: 'data checksums are off, so damaged pages would be backed up unnoticed',
      hint: 'pg_checksums --enable, while the server is stopped',
    },
    { severity: 'ok', subject: 'programs', text: 'pg_dump and pg_restore 17.2 fit the server 17.2' },
    { severity: 'ok', subject: 'archiving', text: 'archive_command is pgrecall wal-push "%p"' },
  ]
  return {
    now,
    version: '0.1.0',
    clusters: [
      clusterOf(catalog, now, checks),
      clusterOf(calm.catalog(), now, checks.slice(1)),
      clusterOf(new MadeUpCluster('new', now, GIB).catalog(), now, []),
    ],
  }
}

/** Twelve weeks: a hole in the archive, a chain with a lost link, a recovery to an earlier moment, and dumps. */
export function eventful(name = 'shop', label = 'before the migration'): { catalog: Catalog; now: Date } {
  const cluster = new MadeUpCluster(name, BEGIN, 412 * GIB)
  weeks(cluster, 12, (index) => {
    if (index === 45) cluster.wait(7 * 3_600_000, false)
    if (index === 66) cluster.goBack(9 * 3_600_000)
    if (index === 73) cluster.wait(16 * 3_600_000, false)
    if (index === 80) cluster.goBack(30 * 3_600_000)
  })
  const catalog = cluster.catalog()
  const lost = catalog.backups.findIndex(({ id }) => id.startsWith('20261008'))
  catalog.backups.splice(lost, 1)
  catalog.backups[60] = { ...catalog.backups[60]!, label }
  return { catalog, now: new Date(cluster.now - 8 * 3_600_000) }
}

/** As status and the look over would have found it, with a server that archives in time. */
export function clusterOf(
  catalog: Catalog,
  now: Date,
  checks: Finding[],
  rules: RetentionRules = RULES,
): ClusterReport {
  const { spans } = spansOfCatalog(catalog)
  const { stretches, unusable } = stretchesOf(catalog)
  const windows = stretches.map(({ timeline, backups, cutBy }, index): Window => {
    const [first, last] = [backups[0]!, backups.at(-1)!]
    const time = new Date(Math.min(spans[index]!.to, now.getTime() - 240_000)).toISOString()
    return {
      timeline,
      from: { backup: first.id, time: first.stop.time, lsn: first.stop.lsn },
      to: { time, lsn: last.stop.lsn, isExact: true },
      backups: backups.map(({ id }) => id),
      cutBy: cutBy ?? null,
    }
  })
  const newest = catalog.backups.at(-1)
  const facts = repositoryFacts({
    windows,
    unusable,
    currentTimeline: catalog.wal.at(-1)!.timeline,
    newestBackup: newest
      ? {
          id: newest.id,
          time: newest.stop.time,
          storedBytes: newest.storedBytes,
          ageSeconds: Math.round((now.getTime() - Date.parse(newest.stop.time)) / 1000),
        }
      : null,
    ...(!newest && { archived: null }),
    freeBytes: 2.4 * 1024 * GIB,
    rpo: newest
      ? { seconds: 240, since: now.toISOString(), unstoredBytes: 3_400_000, basis: 'server' }
      : null,
    restore: restoreEstimate(catalog, []) ?? null,
    growth: growthOf(catalog, now) ?? null,
    fullInSeconds: newest ? 4_800_000 : null,
  })
  const server = serverFacts()
  const clock = new Clock(ZONE)
  const found = { facts, findings: judgeRepository(facts, server), catalog, situation: { now, readers: [] } }
  return {
    cluster: catalog.cluster,
    timeZone: ZONE,
    findings: judgeServer(server, '7'),
    checks,
    repositories: [assembleRepository(found, { ...rules, timeZone: ZONE }, clock)],
  }
}

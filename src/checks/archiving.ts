import { formatAge, formatCount } from '../cli/units.ts'
import type { Server } from '../postgres/server.ts'
import { type Finding, fail, pass, warn } from './finding.ts'

/** How the server archives, and how it went. */
export interface ArchivingFacts {
  inRecovery: boolean
  archiveMode: string
  archiveLibrary: string
  /** Seconds; 0 where a segment is archived only when it is full. */
  archiveTimeout: number
  /** Whether wal-receive is connected. */
  isReceived: boolean
  failures: number
  /** How long ago the archiver failed and succeeded last, seconds. */
  failedAgo: number | undefined
  failedFile: string | undefined
  archivedAgo: number | undefined
  /** What waits in `archive_status`; undefined where it is not known. */
  waiting: { segments: number; oldestSeconds: number } | undefined
}

/** @param slot the replication slot of `wal-receive` */
export async function askArchiving(server: Server, slot: string): Promise<Omit<ArchivingFacts, 'waiting'>> {
  const row = await server.one<{
    recovering: boolean
    mode: string
    library: string | null
    timeout: number
    received: boolean
    failures: number
    failed: number | null
    file: string | null
    archived: number | null
  }>(
    `SELECT pg_is_in_recovery() AS recovering, current_setting('archive_mode') AS mode,
            current_setting('archive_library', true) AS library,
            (SELECT setting::int FROM pg_settings WHERE name = 'archive_timeout') AS timeout,
            EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active) AS received,
            failed_count::float8 AS failures, last_failed_wal AS file,
            extract(epoch FROM clock_timestamp() - last_failed_time)::float8 AS failed,
            extract(epoch FROM clock_timestamp() - last_archived_time)::float8 AS archived
       FROM pg_stat_archiver`,
    [slot],
  )
  return {
    inRecovery: row.recovering,
    archiveMode: row.mode,
    archiveLibrary: row.library ?? '',
    archiveTimeout: row.timeout,
    isReceived: row.received,
    failures: row.failures,
    failedAgo: row.failed ?? undefined,
    failedFile: row.file ?? undefined,
    archivedAgo: row.archived ?? undefined,
  }
}

const DAY_SECONDS = 24 * 3600
const LATE_SECONDS = { warn: 5 * 60, fail: 15 * 60 }

/**
 * Whether the server archives, and has no trouble with it.
 * @param isNeeded whether backups of this cluster need archived WAL; without that, none is no failure
 */
export function judgeArchiving(facts: ArchivingFacts, isNeeded: boolean): Finding[] {
  if (facts.inRecovery) return judgeStandby(facts)
  const received = facts.isReceived
    ? [pass('wal-receive', 'wal-receive receives the WAL as it is written')]
    : []
  if (facts.archiveMode === 'off') return facts.isReceived ? received : [withoutArchiving(isNeeded)]
  if (facts.archiveLibrary !== '')
    return [
      ...received,
      warn(
        'archive_library',
        `archive_library is "${facts.archiveLibrary}", so archive_command is not called`,
        'ALTER SYSTEM RESET archive_library; SELECT pg_reload_conf();',
      ),
    ]
  return [
    ...received,
    pass('archive_mode', `archive_mode is ${facts.archiveMode}`),
    ...judgeTimeout(facts),
    ...judgeArchiver(facts),
  ]
}

function withoutArchiving(isNeeded: boolean): Finding {
  const hint = 'ALTER SYSTEM SET archive_mode = on; and restart the server, or run "pgrecall wal-receive"'
  return isNeeded
    ? fail('archive_mode', 'archive_mode is off and no wal-receive is connected, so no WAL is archived', hint)
    : warn('archive_mode', 'no WAL is archived: between backups there is no way back', hint)
}

/** It archives what it receives with `always` only; with `on`, from the moment it is promoted. */
function judgeStandby({ archiveMode }: ArchivingFacts): Finding[] {
  if (archiveMode !== 'off') return [pass('archive_mode', `archive_mode is ${archiveMode}, on a standby`)]
  return [
    warn(
      'archive_mode',
      'archive_mode is off on this standby, so once it is promoted no WAL is archived',
      'ALTER SYSTEM SET archive_mode = on; at the primary or in postgresql.conf here, and restart the standby',
    ),
  ]
}

function judgeTimeout({ archiveTimeout, isReceived }: ArchivingFacts): Finding[] {
  if (archiveTimeout > 0)
    return [pass('archive_timeout', `each segment is archived after ${archiveTimeout} s at the latest`)]
  if (isReceived) return []
  return [
    warn(
      'archive_timeout',
      'archive_timeout is 0, so what was committed is archived only when 16 MiB of WAL have come together, if ever',
      'ALTER SYSTEM SET archive_timeout = 60; SELECT pg_reload_conf();',
    ),
  ]
}

const SERVER_LOG = "look into the server's log for what archive_command said"

/** What waits too long; nothing is said of what does not. */
export function judgeWaiting(waiting: ArchivingFacts['waiting']): Finding[] {
  if (!waiting || waiting.oldestSeconds <= LATE_SECONDS.warn) return []
  const text = `${formatCount(waiting.segments, 'segment')} ${waiting.segments === 1 ? 'waits' : 'wait'} to be archived, the oldest for ${formatAge(1000 * waiting.oldestSeconds)}`
  return [(waiting.oldestSeconds > LATE_SECONDS.fail ? fail : warn)('archiver', text, SERVER_LOG)]
}

function judgeArchiver({ failures, failedAgo, failedFile, archivedAgo, waiting }: ArchivingFacts): Finding[] {
  const findings: Finding[] = []
  if (failedAgo !== undefined && (archivedAgo === undefined || failedAgo < archivedAgo))
    findings.push(
      fail(
        'archiver',
        `archiving fails, last ${formatAge(1000 * failedAgo)} ago with ${failedFile}`,
        SERVER_LOG,
      ),
    )
  else if (failedAgo !== undefined && failedAgo < DAY_SECONDS)
    findings.push(
      warn(
        'archiver',
        `archiving works, and failed ${formatAge(1000 * failedAgo)} ago with ${failedFile} (${formatCount(failures, 'time')} since the statistics began)`,
        SERVER_LOG,
      ),
    )
  findings.push(...judgeWaiting(waiting))
  if (findings.length > 0) return findings
  const text = archivedAgo === undefined ? 'nothing had to be archived so far' : 'the archiver works'
  return [pass('archiver', waiting?.segments === 0 ? `${text}, and no segment waits` : text)]
}

import { readdir, readFile, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { reasonOf } from '../errors.ts'
import { lsn } from '../postgres/lsn.ts'
import { readControlFile } from '../postgres/pg-control.ts'
import type { Server } from '../postgres/server.ts'
import { numberOf, parseWalFile, segmentStart } from '../postgres/wal-file.ts'
import type { ServerFacts } from './facts.ts'

/** Over less than this, the rate of WAL says little. */
const LEAST_SPAN_SECONDS = 60

export interface ServerQuestion {
  /** @throws PgrecallError when the server cannot be reached, which is an answer too */
  connect: () => Promise<Server>
  /** Where the configuration says that it is. */
  dataDirectory: string | undefined
  /** Whose archive it is; undefined when nothing is stored yet. */
  systemIdentifier: string | undefined
  walSegmentBytes: number
  /** The replication slot of `wal-receive`. */
  slot: string
  now: Date
  signal: AbortSignal
}

type Asked = Omit<ServerFacts, 'walDisk' | 'walBytesPerSecond' | 'fullInSeconds'>

/**
 * What the server, and the files of its data directory where that is on this host, tell of archiving. The files still
 * tell it when the server is down.
 */
export async function askServer(question: ServerQuestion): Promise<ServerFacts> {
  const { dataDirectory: told, ...asked } = await askOverSql(question)
  const directory = question.dataDirectory ?? told
  const isHere =
    directory !== undefined &&
    (await isOfCluster(directory, asked.systemIdentifier ?? question.systemIdentifier))
  const waiting = (isHere ? await waitingOnHost(directory, question.now) : undefined) ?? asked.waiting
  const walDisk = isHere ? await diskOf(join(directory, 'pg_wal')) : null
  const walBytesPerSecond = rateOf({ ...asked, waiting }, question.walSegmentBytes)
  return { ...asked, waiting, walDisk, walBytesPerSecond, fullInSeconds: null }
}

const UNKNOWN: Asked = {
  reachable: false,
  error: null,
  systemIdentifier: null,
  inRecovery: null,
  timeline: null,
  lsn: null,
  archiveMode: null,
  archiveTimeoutSeconds: null,
  walClock: null,
  archiver: null,
  waiting: null,
  slot: null,
}

async function askOverSql(question: ServerQuestion): Promise<Asked & { dataDirectory?: string | undefined }> {
  try {
    await using server = await question.connect()
    const { position, timeline, ...row } = await server.one<{
      recovering: boolean
      identifier: string
      timeline: number
      position: string | null
      archive_mode: string
      archive_timeout: number
      directory: string | null
    }>(`SELECT pg_is_in_recovery() AS recovering,
               (SELECT system_identifier::text FROM pg_control_system()) AS identifier,
               (SELECT timeline_id FROM pg_control_checkpoint()) AS timeline,
               CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text AS position,
               current_setting('archive_mode') AS archive_mode,
               (SELECT setting::int FROM pg_settings WHERE name = 'archive_timeout') AS archive_timeout,
               (SELECT setting FROM pg_settings WHERE name = 'data_directory') AS directory`)
    return {
      reachable: true,
      error: null,
      systemIdentifier: BigInt.asUintN(64, BigInt(row.identifier)).toString(),
      inRecovery: row.recovering,
      timeline: row.recovering ? timeline : await timelineWritten(server),
      lsn: position,
      archiveMode: row.archive_mode,
      archiveTimeoutSeconds: row.archive_timeout > 0 ? row.archive_timeout : null,
      walClock: row.recovering ? null : await walClockOf(server),
      archiver: await archiverOf(server),
      waiting: await waitingBySql(server, question.now),
      slot: await slotOf(server, question.slot),
      dataDirectory: row.directory ?? undefined,
    }
  } catch (error) {
    question.signal.throwIfAborted()
    return { ...UNKNOWN, error: reasonOf(error) }
  }
}

/** After a promotion the last checkpoint may still be of the timeline before. */
async function timelineWritten(server: Server): Promise<number> {
  const { name } = await server.one<{ name: string }>('SELECT pg_walfile_name(pg_current_wal_lsn()) AS name')
  return Number.parseInt(name.slice(0, 8), 16)
}

const ISO = `'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'`

async function archiverOf(server: Server): Promise<ServerFacts['archiver']> {
  const row = await server.one<Record<'archived' | 'archived_at' | 'failed' | 'failed_at', string | null>>(
    `SELECT last_archived_wal AS archived, to_char(last_archived_time AT TIME ZONE 'UTC', ${ISO}) AS archived_at,
            last_failed_wal AS failed, to_char(last_failed_time AT TIME ZONE 'UTC', ${ISO}) AS failed_at
       FROM pg_stat_archiver`,
  )
  const event = (file: string | null, time: string | null) => (file && time ? { file, time } : null)
  return {
    lastArchived: event(row.archived, row.archived_at),
    lastFailed: event(row.failed, row.failed_at),
  }
}

async function slotOf(server: Server, name: string): Promise<ServerFacts['slot']> {
  const [slot] = await server.query<{ active: boolean }>(
    'SELECT active FROM pg_replication_slots WHERE slot_name = $1',
    [name],
  )
  return slot ? { name, active: slot.active } : null
}

/** Needs PostgreSQL 12 and the role pg_monitor. */
async function waitingBySql(server: Server, now: Date): Promise<ServerFacts['waiting']> {
  try {
    const { count, file, since } = await server.one<{
      count: number
      file: string | null
      since: string | null
    }>(
      `SELECT count(*)::int AS count, (array_agg(left(name, -6) ORDER BY name))[1] AS file,
              (array_agg(to_char(modification AT TIME ZONE 'UTC', ${ISO}) ORDER BY name))[1] AS since
         FROM pg_ls_archive_statusdir() WHERE name ~ '^[0-9A-F]{24}[.]ready$'`,
    )
    return { segments: count, oldest: file && since ? aged(file, new Date(since), now) : null }
  } catch {
    return null
  }
}

/** The status of a segment is noted when it is full, and only renamed afterwards. Needs PostgreSQL 12 and the role pg_monitor. */
async function walClockOf(server: Server): Promise<ServerFacts['walClock']> {
  try {
    const { written, file, completed } = await server.one<
      Record<'written' | 'file' | 'completed', string | null>
    >(
      `SELECT to_char((SELECT modification FROM pg_ls_waldir() WHERE name = pg_walfile_name(pg_current_wal_lsn()))
                        AT TIME ZONE 'UTC', ${ISO}) AS written,
              left(newest.name, 24) AS file, to_char(newest.modification AT TIME ZONE 'UTC', ${ISO}) AS completed
         FROM (SELECT 1) AS always
         LEFT JOIN (SELECT name, modification FROM pg_ls_archive_statusdir()
                     WHERE name ~ '^[0-9A-F]{24}[.](ready|done)$' ORDER BY name DESC LIMIT 1) AS newest ON true`,
    )
    if (written === null) return null
    return { writtenAt: written, completed: file && completed ? { file, time: completed } : null }
  } catch {
    return null
  }
}

/** A folder on this host is this server's only if its pg_control says so. */
async function isOfCluster(directory: string, systemIdentifier: string | undefined | null): Promise<boolean> {
  const bytes = await readFile(join(directory, 'global/pg_control')).catch(() => undefined)
  const found = bytes && readControlFile(bytes)?.systemIdentifier
  return found !== undefined && (systemIdentifier == null || found === systemIdentifier)
}

async function waitingOnHost(directory: string, now: Date): Promise<ServerFacts['waiting'] | undefined> {
  const folder = join(directory, 'pg_wal/archive_status')
  const names = await readdir(folder).catch(() => undefined)
  if (!names) return undefined
  const ready = names.filter((name) => /^[0-9A-F]{24}\.ready$/.test(name)).toSorted()
  const oldest = ready[0]
  const since = oldest && (await stat(join(folder, oldest)).catch(() => undefined))?.mtime
  return { segments: ready.length, oldest: since ? aged(oldest.slice(0, 24), since, now) : null }
}

function aged(file: string, since: Date, now: Date) {
  const ageSeconds = Math.max(0, Math.round((now.getTime() - since.getTime()) / 1000))
  return { file, since: since.toISOString(), ageSeconds }
}

async function diskOf(path: string): Promise<ServerFacts['walDisk']> {
  const facts = await statfs(path).catch(() => undefined)
  return facts ? { freeBytes: facts.bavail * facts.bsize } : null
}

/** All WAL that was written since the oldest waiting segment was full. */
function rateOf({ waiting, lsn: position, inRecovery }: Asked, segmentBytes: number): number | null {
  const oldest = waiting?.oldest
  if (!oldest || position === null || inRecovery || oldest.ageSeconds < LEAST_SPAN_SECONDS) return null
  const file = parseWalFile(oldest.file)
  if (file?.kind !== 'segment') return null
  const since = segmentStart(numberOf(file, segmentBytes) + 1n, segmentBytes)
  return Math.max(0, Number(lsn(position) - since)) / oldest.ageSeconds
}

import { type ErrorKind, PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { parseBackupLabel } from './backup-label.ts'
import { type Lsn, lsn } from './lsn.ts'
import type { Server } from './server.ts'
import { lastSegmentNumber, segmentName } from './wal-file.ts'

/** Where a backup's recovery begins and where it is consistent. Times are the server's clock, ISO 8601. */
export interface BackupEnds {
  timeline: number
  /** `walFile` is the first segment that the recovery needs. */
  start: { lsn: Lsn; walFile: string; time: string }
  /** `walFile` is the last segment that it needs. */
  stop: { lsn: Lsn; walFile: string; time: string }
  /** Every transaction with a lower id (64 bits, decimal) had ended when the backup was over. */
  xmin: string
  fromStandby: boolean
  /** The text that goes into the copy as `backup_label`; undefined for a copy of a cluster that was shut down. */
  label: string | undefined
}

/** A backup that has begun. */
export interface BackupStart {
  lsn: Lsn
  timeline: number
  time: string
}

/**
 * The low-level backup API in its non-exclusive form, under both of its spellings: `pg_start_backup` up to 14,
 * `pg_backup_start` from 15. The session that starts must live until it stops: if it dies, the backup is void.
 * @throws PgrecallError `refused` with the server's own reason
 * @see https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP
 */
export async function startBackup(
  server: Server,
  version: number,
  options: { label: string; fast: boolean },
): Promise<BackupStart> {
  const call = version >= 150_000 ? 'pg_backup_start($1, $2)' : 'pg_start_backup($1, $2, false)'
  const row = await server
    .one<{ position: string }>(`SELECT ${call}::text AS position`, [options.label, options.fast])
    .catch((error) => {
      throw serversReason('refused', 'the server does not start a backup', error)
    })
  // The checkpoint is the one that the backup begins with.
  const { time, timeline } = await server.one<{ time: string; timeline: number }>(
    `SELECT ${ISO_NOW} AS time, timeline_id AS timeline FROM pg_control_checkpoint()`,
  )
  await requireSameTimeline(server, timeline)
  return { lsn: lsn(row.position), timeline, time }
}

/**
 * Ends the backup. It does not wait for the archiver: whether the WAL is in the repository is for us to see.
 * @throws PgrecallError `failed` when the server says that the backup is void, as after the promotion of a standby
 */
export async function stopBackup(
  server: Server,
  version: number,
  segmentBytes: number,
  started: BackupStart,
): Promise<BackupEnds> {
  const call = version >= 150_000 ? 'pg_backup_stop(false)' : 'pg_stop_backup(false, false)'
  const row = await server
    .one<{ position: string; labelfile: string }>(`SELECT lsn::text AS position, labelfile FROM ${call}`)
    .catch((error) => {
      throw serversReason('failed', 'the backup is void', error)
    })
  const after = await serversMoment(server, version)
  const { timeline, walFile, fromStandby } = parseBackupLabel(row.labelfile)
  await requireSameTimeline(server, timeline)
  const stop = lsn(row.position)
  // From 17 on, a position on a boundary belongs to the next segment there, which is not needed and does not come.
  const last = segmentName(timeline, lastSegmentNumber(stop, segmentBytes), segmentBytes)
  return {
    timeline,
    start: { lsn: started.lsn, walFile, time: started.time },
    stop: { lsn: stop, walFile: last, time: after.time },
    xmin: after.xmin,
    fromStandby,
    label: row.labelfile,
  }
}

/** The server's clock, and the oldest transaction that may still be running. */
export function serversMoment(server: Server, version: number): Promise<{ time: string; xmin: string }> {
  const snapshot =
    version >= 130_000
      ? 'pg_snapshot_xmin(pg_current_snapshot())'
      : 'txid_snapshot_xmin(txid_current_snapshot())'
  return server.one(`SELECT ${ISO_NOW} AS time, ${snapshot}::text AS xmin`)
}

/**
 * A standby that follows its primary's promotion lives on, but its backup would need WAL of two timelines. Of a primary,
 * nothing is said there.
 */
async function requireSameTimeline(server: Server, timeline: number): Promise<void> {
  const { current } = await server.one<{ current: number }>(
    'SELECT min_recovery_end_timeline AS current FROM pg_control_recovery()',
  )
  if (current === 0 || current === timeline) return
  throw new PgrecallError(
    'failed',
    `the standby has gone from timeline ${timeline} to ${current}, and no backup goes across that`,
    { hint: 'take the backup again; a CHECKPOINT on the primary brings the standby its next restartpoint' },
  )
}

function serversReason(kind: ErrorKind, what: string, error: unknown): unknown {
  if (error instanceof PgrecallError || systemCode(error) === undefined) return error
  const { hint } = error as { hint?: string }
  return new PgrecallError(kind, `${what}: ${reasonOf(error)}`, { ...(hint && { hint }), cause: error })
}

/**
 * Keeps WAL from being recycled while this session lives, for a backup that carries its own WAL: a temporary
 * physical slot that reserves at once.
 */
export async function reserveWal(server: Server, slotName: string): Promise<void> {
  await server
    .query('SELECT pg_create_physical_replication_slot($1, true, true)', [slotName])
    .catch((error) => {
      throw serversReason('failed', 'the server gives no slot to keep its WAL', error)
    })
}

/** Ends the current segment so that it can be archived; gives the name of the segment that ended. */
export async function switchWal(server: Server, restorePoint: string): Promise<string> {
  // A switch does nothing while nothing was written since the last one: the restore point writes something.
  const { file } = await server.one<{ file: string }>(
    'SELECT pg_walfile_name(pg_create_restore_point($1)) AS file',
    [restorePoint],
  )
  await server.query('SELECT pg_switch_wal()')
  return file
}

export const ISO_NOW = `to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`

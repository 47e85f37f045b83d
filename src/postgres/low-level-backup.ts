import { type Lsn, lsn } from './lsn.ts'
import type { Server } from './server.ts'
import { lastSegmentNumber, segmentName } from './wal-file.ts'

/** Where a backup begins. */
export interface BackupStart {
  lsn: Lsn
  /** The first segment that its recovery needs. */
  walFile: string
  timeline: number
  /** The server's clock, ISO 8601 with microseconds. */
  time: string
}

/** Where a backup is consistent, and the files that `pg_backup_stop` hands out for it. */
export interface BackupStop {
  lsn: Lsn
  walFile: string
  time: string
  /** Every transaction with a lower id (64 bits, decimal) had ended when the backup was over. */
  xmin: string
  backupLabel: string
}

/**
 * The low-level backup API in its non-exclusive form, under both of its spellings: `pg_start_backup` up to 14,
 * `pg_backup_start` from 15. The session that starts must live until it stops: if it dies, the backup is void.
 * @see https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP
 */
export async function startBackup(
  server: Server,
  version: number,
  options: { label: string; fast: boolean },
): Promise<BackupStart> {
  const call = version >= 150_000 ? 'pg_backup_start($1, $2)' : 'pg_start_backup($1, $2, false)'
  const { position } = await server.one<{ position: string }>(`SELECT ${call}::text AS position`, [
    options.label,
    options.fast,
  ])
  const row = await server.one<{ file: string; time: string }>(
    `SELECT pg_walfile_name($1) AS file, ${ISO_NOW} AS time`,
    [position],
  )
  // The timeline is in the name; pg_control_checkpoint() could still tell of an older one.
  return {
    lsn: lsn(position),
    walFile: row.file,
    timeline: Number.parseInt(row.file.slice(0, 8), 16),
    time: row.time,
  }
}

/**
 * Ends the backup. It does not wait for the archiver: whether the WAL is in the repository is for us to see.
 */
export async function stopBackup(server: Server, version: number, segmentBytes: number): Promise<BackupStop> {
  const call = version >= 150_000 ? 'pg_backup_stop(false)' : 'pg_stop_backup(false, false)'
  const row = await server.one<{ position: string; labelfile: string }>(
    `SELECT lsn::text AS position, labelfile FROM ${call}`,
  )
  const snapshot =
    version >= 130_000
      ? 'pg_snapshot_xmin(pg_current_snapshot())'
      : 'txid_snapshot_xmin(txid_current_snapshot())'
  const after = await server.one<{ file: string; time: string; xmin: string }>(
    `SELECT pg_walfile_name($1) AS file, ${ISO_NOW} AS time, ${snapshot}::text AS xmin`,
    [row.position],
  )
  // From 17 on, a position on a boundary belongs to the next segment there, which is not needed and does not come.
  const timeline = Number.parseInt(after.file.slice(0, 8), 16)
  const walFile = segmentName(timeline, lastSegmentNumber(lsn(row.position), segmentBytes), segmentBytes)
  return {
    lsn: lsn(row.position),
    walFile,
    time: after.time,
    xmin: after.xmin,
    backupLabel: row.labelfile,
  }
}

/**
 * Keeps WAL from being recycled while this session lives, for a backup that carries its own WAL: a temporary
 * physical slot that reserves at once.
 */
export async function reserveWal(server: Server, slotName: string): Promise<void> {
  await server.query('SELECT pg_create_physical_replication_slot($1, true, true)', [slotName])
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

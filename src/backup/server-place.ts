import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { systemCode } from '../errors.ts'
import { type Lsn, lsn } from '../postgres/lsn.ts'
import type { Server } from '../postgres/server.ts'
import { parseHistory, type TimelineHistory } from '../postgres/timeline-history.ts'
import { historyName } from '../postgres/wal-file.ts'

/** Where the server is now, and how it came there. */
export interface ServerPlace {
  timeline: number
  /** A backup that begins from now on begins here or later. */
  lsn: Lsn
  /** Undefined where it is not known; then only backups of the same timeline count. */
  history: TimelineHistory | undefined
}

/**
 * Where the server is now; of a standby, where a backup would begin at the earliest: its last restartpoint.
 * @param dataDirectory where its files are on this host; its own history of timelines is read from there
 */
export async function placeOfServer(server: Server, dataDirectory?: string): Promise<ServerPlace> {
  const { timeline, position } = await server.one<{ timeline: number; position: string }>(
    `SELECT CASE WHEN pg_is_in_recovery()
              THEN greatest((SELECT timeline_id FROM pg_control_checkpoint()),
                            (SELECT min_recovery_end_timeline FROM pg_control_recovery()))
              ELSE ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int
            END AS timeline,
            CASE WHEN pg_is_in_recovery() THEN (SELECT redo_lsn FROM pg_control_checkpoint())
              ELSE pg_current_wal_lsn()
            END::text AS position`,
  )
  const history =
    timeline === 1 ? parseHistory('', 1) : dataDirectory && (await ownHistory(dataDirectory, timeline))
  return { timeline, lsn: lsn(position), history: history || undefined }
}

async function ownHistory(dataDirectory: string, timeline: number): Promise<TimelineHistory | undefined> {
  try {
    return parseHistory(
      await readFile(join(dataDirectory, 'pg_wal', historyName(timeline)), 'utf8'),
      timeline,
    )
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
}

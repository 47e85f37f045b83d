import { type FileHandle, mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { PgrecallError, reasonOf } from '../errors.ts'
import { formatLsn, lsn } from '../postgres/lsn.ts'
import type { Server } from '../postgres/server.ts'
import { faultOfSummaries } from '../postgres/summary-faults.ts'
import { firstGap, legsBetween, type WalLeg, type WalPosition } from '../postgres/wal-summaries.ts'
import type { ParentBackup } from './method.ts'

/**
 * Keeps the manifest of the backup that a new one builds upon at hand, for a program that reads it from a file. The
 * file has no name any more when the first byte is written, so nothing is left of it, however this process ends.
 * @returns the file, to be closed; what reads it has to begin at position 0
 * @throws PgrecallError `failed` when there is no room for it, and whatever reading the manifest throws
 */
export async function keepManifest(pieces: AsyncIterable<Buffer>): Promise<FileHandle> {
  const file = await openNameless().catch(cannotKeep)
  try {
    let position = 0
    for await (const piece of pieces) position += await append(file, piece, position).catch(cannotKeep)
    return file
  } catch (error) {
    await file.close()
    throw error
  }
}

async function openNameless(): Promise<FileHandle> {
  const folder = await mkdtemp(join(tmpdir(), 'pgrecall-'))
  try {
    return await open(join(folder, 'backup_manifest'), 'wx+', 0o600)
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** At a position, so that the descriptor itself stays at the beginning. */
async function append(file: FileHandle, piece: Buffer, position: number): Promise<number> {
  for (let at = 0; at < piece.length; ) {
    at += (await file.write(piece, at, piece.length - at, position + at)).bytesWritten
  }
  return piece.length
}

function cannotKeep(cause: unknown): never {
  const text = `cannot keep the manifest of the backup that this one builds upon in ${tmpdir()}: ${reasonOf(cause)}`
  throw new PgrecallError('failed', text, { hint: 'free some space there, or set TMPDIR', cause })
}

/**
 * Why the server's own incremental backup upon a parent cannot be had, or cannot be trusted, by its summaries of the WAL.
 * @param to where the new backup begins; as far as the summaries go when that is not known yet
 * @returns a part of a sentence; undefined when nothing speaks against it
 */
export async function faultOfIncrement(
  server: Server,
  parent: Pick<ParentBackup, 'record' | 'history'>,
  to?: WalPosition,
): Promise<string | undefined> {
  try {
    return await faultInSummaries(server, parent, to)
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error
    return `the server does not give its WAL summaries: ${reasonOf(error)}`
  }
}

async function faultInSummaries(
  server: Server,
  { record, history }: Pick<ParentBackup, 'record' | 'history'>,
  to: WalPosition | undefined,
): Promise<string | undefined> {
  const { version, summarizes, done } = await stateOfSummaries(server)
  if (!summarizes) return 'summarize_wal is off'
  const from = { lsn: lsn(record.start.lsn), timeline: record.timeline }
  const legs = legsBetween({ timelineHistory: history, from, to: to ?? done })
  // As long as the summaries have not come to the parent, nothing is missing: the server waits for them.
  const covered = 'missing' in legs ? [] : legs
  const summaries = await summariesOn(server, covered)
  const gap = firstGap(covered, summaries)
  if (gap) return `timeline ${gap.timeline} has no WAL summary from ${formatLsn(gap.lsn)} on`
  const crossesTimelines = record.timeline !== (to?.timeline ?? history.at(-1)?.timeline)
  const hasCuts = await hasCutsIn(server, summaries)
  return faultOfSummaries(version, 'server', { crossesTimelines, hasCuts })
}

async function stateOfSummaries(server: Server) {
  const row = await server.one<{ version: number; summarizes: boolean; tli: string; lsn: string }>(
    `SELECT current_setting('server_version_num')::int AS version, current_setting('summarize_wal')::boolean AS summarizes,
            summarized_tli AS tli, summarized_lsn AS lsn
       FROM pg_get_wal_summarizer_state()`,
  )
  const { version, summarizes } = row
  return { version, summarizes, done: { lsn: lsn(row.lsn), timeline: Number(row.tli) } }
}

async function summariesOn(server: Server, legs: readonly WalLeg[]): Promise<WalLeg[]> {
  const rows = await server.query<{ tli: string; start_lsn: string; end_lsn: string }>(
    'SELECT tli, start_lsn, end_lsn FROM pg_available_wal_summaries()',
  )
  return rows
    .map((row) => ({ timeline: Number(row.tli), begin: lsn(row.start_lsn), end: lsn(row.end_lsn) }))
    .filter(({ timeline, begin, end }) =>
      legs.some((leg) => leg.timeline === timeline && leg.begin < end && leg.end > begin),
    )
}

/** Whether a relation was cut, but not to nothing. The map of free space does not matter: it is always sent whole. */
async function hasCutsIn(server: Server, summaries: readonly WalLeg[]): Promise<boolean> {
  for (const { timeline, begin, end } of summaries) {
    const { found } = await server.one<{ found: boolean }>(
      `SELECT EXISTS (SELECT FROM pg_wal_summary_contents($1, $2, $3)
                       WHERE is_limit_block AND relblocknumber > 0 AND relforknumber <> 1) AS found`,
      [timeline, formatLsn(begin), formatLsn(end)],
    )
    if (found) return true
  }
  return false
}

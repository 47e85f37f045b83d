import { setTimeout as wait } from 'node:timers/promises'
import pg from 'pg'
import { reasonOf } from '../errors.ts'
import { BlockChanges } from './block-changes.ts'
import { formatLsn, type Lsn, lsn } from './lsn.ts'
import { quoteIdentifier, type Server } from './server.ts'
import type { TimelineHistory } from './timeline-history.ts'

/** A place in the WAL of a cluster that may have been promoted. */
export interface WalPosition {
  lsn: Lsn
  timeline: number
}

/** A part of one timeline, from a position up to another one. */
export interface WalLeg {
  timeline: number
  begin: Lsn
  end: Lsn
}

export interface SummaryOptions {
  /** Of the server, up to the timeline of `to`. */
  timelineHistory: TimelineHistory
  /** Where the earlier backup began. */
  from: WalPosition
  /** Where this one begins. */
  to: WalPosition
  /** How long to wait for the server's summariser to come to `to`. */
  waitMs: number
  signal?: AbortSignal
}

/** `missing` is a part of a sentence, and says why the changes cannot be had. */
export type Summaries = { changes: BlockChanges } | { missing: string }

/** At first; doubled after each look. */
const SHORTEST_PAUSE_MS = 20
const LONGEST_PAUSE_MS = 500
const INSUFFICIENT_PRIVILEGE = '42501'

/**
 * Reads which blocks changed between two positions, from the server's own summaries of its WAL (17 and later). Works
 * on a primary and on a standby.
 *
 * The summaries have to cover all of the way. One of an abandoned timeline may go past the point where that was
 * left, and then speak of changes that are not part of the history. That gives blocks too many, and no block too
 * few, since all of a relation counts as changed from its limit block on.
 *
 * @throws PgrecallError `connection` when the session is lost; what an aborted signal makes of a wait
 * @see src/backend/backup/basebackup_incremental.c: PrepareForIncrementalBackup
 */
export async function summariesFor(server: Server, options: SummaryOptions): Promise<Summaries> {
  try {
    const settings = await readSettings(server)
    if (settings.summarizes === undefined) return { missing: 'servers before PostgreSQL 17 summarise no WAL' }
    if (!settings.summarizes) return { missing: 'summarize_wal is off' }
    const legs = legsBetween(options)
    if ('missing' in legs) return legs
    const files = await waitForSummaries(server, legs, options)
    if ('missing' in files) return files
    const changes = new BlockChanges(settings.segmentBlocks)
    for (const file of files) {
      options.signal?.throwIfAborted()
      await readSummary(server, file, changes)
    }
    return { changes }
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error
    return { missing: reasonOfRefusal(error, server.user) }
  }
}

/** The way from one position to another through a history, in the order in which it was written. */
export function legsBetween({
  timelineHistory,
  from,
  to,
}: Pick<SummaryOptions, 'timelineHistory' | 'from' | 'to'>): WalLeg[] | { missing: string } {
  const first = timelineHistory.findIndex(({ timeline }) => timeline === from.timeline)
  const last = timelineHistory.findIndex(({ timeline }) => timeline === to.timeline)
  const start = `the earlier backup began at ${formatLsn(from.lsn)} on timeline ${from.timeline}`
  if (first < 0 || last < first) return { missing: `${start}, which is not in this server's history` }
  const stretches = timelineHistory.slice(first, last + 1)
  const legs = stretches.map(({ timeline, begin, end }, at) => ({
    timeline,
    begin: at === 0 ? from.lsn : begin,
    end: at === stretches.length - 1 ? to.lsn : end!,
  }))
  const { begin } = stretches[0]!
  if (from.lsn < begin) return { missing: `${start}, which begins only at ${formatLsn(begin)}` }
  const { end } = legs[0]!
  if (from.lsn > end) {
    return {
      missing: `${start}, of which the history of this one has only what comes before ${formatLsn(end)}`,
    }
  }
  return legs.filter(({ begin, end }) => begin < end)
}

/** The first position on the way that no summary covers; undefined when they cover all of it. */
export function firstGap(legs: readonly WalLeg[], summaries: readonly WalLeg[]): WalPosition | undefined {
  for (const leg of legs) {
    let covered = leg.begin
    const inOrder = summaries
      .filter((summary) => overlaps(summary, leg))
      .sort((a, b) => (a.begin < b.begin ? -1 : a.begin > b.begin ? 1 : 0))
    for (const { begin, end } of inOrder) {
      if (begin > covered) break
      if (end > covered) covered = end
    }
    if (covered < leg.end) return { lsn: covered, timeline: leg.timeline }
  }
  return undefined
}

const overlaps = (a: WalLeg, b: WalLeg) => a.timeline === b.timeline && a.begin < b.end && a.end > b.begin

/** Whether the server summarises its WAL; undefined before 17, which cannot. */
export async function summarizesWal(server: Server): Promise<boolean | undefined> {
  return (await readSettings(server)).summarizes
}

async function readSettings(server: Server) {
  const rows = await server.query<{ name: string; setting: string }>(
    `SELECT name, setting FROM pg_settings WHERE name IN ('summarize_wal', 'segment_size')`,
  )
  const settings = new Map(rows.map(({ name, setting }) => [name, setting]))
  const summarizes = settings.get('summarize_wal')
  return {
    summarizes: summarizes === undefined ? undefined : summarizes === 'on',
    segmentBlocks: Number(settings.get('segment_size')),
  }
}

/** Waits until the summaries cover the legs, as long as they still can. @returns the ones that are needed */
async function waitForSummaries(
  server: Server,
  legs: WalLeg[],
  { waitMs, signal }: SummaryOptions,
): Promise<WalLeg[] | { missing: string }> {
  const deadline = performance.now() + waitMs
  for (let pauseMs = SHORTEST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS)) {
    // Asked before the list is, so that what it says to be done is in there.
    const summariser = await stateOf(server)
    const summaries = await availableSummaries(server)
    const gap = firstGap(legs, summaries)
    if (!gap) return summaries.filter((summary) => legs.some((leg) => overlaps(summary, leg)))
    if (isBehind(gap, summariser.done)) return { missing: gapReason(gap, summaries) }
    if (performance.now() >= deadline) {
      return {
        missing: summariser.isRunning
          ? `the WAL summariser did not come to ${formatLsn(legs.at(-1)!.end)} within ${waitMs / 1000} s; it is at ${formatLsn(summariser.done.lsn)}`
          : `the WAL summariser's process is not running`,
      }
    }
    await wait(pauseMs, undefined, signal ? { signal } : {})
  }
}

/** How far the summaries go that are on disk; 0/0 while the process has not begun. */
async function stateOf(server: Server): Promise<{ done: WalPosition; isRunning: boolean }> {
  const row = await server.one<{ tli: string; lsn: string; pid: number | null }>(
    'SELECT summarized_tli AS tli, summarized_lsn AS lsn, summarizer_pid AS pid FROM pg_get_wal_summarizer_state()',
  )
  return { done: { lsn: lsn(row.lsn), timeline: Number(row.tli) }, isRunning: row.pid !== null }
}

async function availableSummaries(server: Server): Promise<WalLeg[]> {
  const rows = await server.query<{ tli: string; start_lsn: string; end_lsn: string }>(
    'SELECT tli, start_lsn, end_lsn FROM pg_available_wal_summaries()',
  )
  return rows.map((row) => ({ timeline: Number(row.tli), begin: lsn(row.start_lsn), end: lsn(row.end_lsn) }))
}

/** Whether the summariser, which goes only forward, has passed a position. */
function isBehind(position: WalPosition, done: WalPosition): boolean {
  return position.timeline < done.timeline || (position.timeline === done.timeline && position.lsn < done.lsn)
}

function gapReason(gap: WalPosition, summaries: readonly WalLeg[]): string {
  const next = summaries
    .filter(({ timeline, begin }) => timeline === gap.timeline && begin > gap.lsn)
    .map(({ begin }) => begin)
    .reduce<Lsn | undefined>(
      (least, begin) => (least === undefined || begin < least ? begin : least),
      undefined,
    )
  const end = next === undefined ? 'on' : `to ${formatLsn(next)}`
  return `timeline ${gap.timeline} has no WAL summary from ${formatLsn(gap.lsn)} ${end}`
}

/** Blocks in one row of the answer, and rows that are fetched at once: together up to 13 MB of text. */
const BLOCKS_PER_ROW = 16_384
const ROWS_PER_FETCH = 100

/** A group of blocks of one relation; block numbers as text, since that is quickest to make and to read. */
const CONTENTS = `
  DECLARE changes NO SCROLL CURSOR FOR
   SELECT reltablespace AS space, reldatabase AS database, relfilenode AS relation,
          min(relblocknumber) FILTER (WHERE is_limit_block) AS limit_block,
          string_agg(relblocknumber::text, ',') FILTER (WHERE NOT is_limit_block) AS blocks
     FROM pg_wal_summary_contents($1, $2, $3)
    WHERE relforknumber = 0
    GROUP BY 1, 2, 3, relblocknumber / ${BLOCKS_PER_ROW}`

/** Adds what one summary says of main forks. */
async function readSummary(server: Server, file: WalLeg, changes: BlockChanges): Promise<void> {
  await server.query('BEGIN READ ONLY')
  try {
    await server.query(CONTENTS, [file.timeline, formatLsn(file.begin), formatLsn(file.end)])
    for (;;) {
      const rows = await server.query<{
        space: number
        database: number
        relation: number
        limit_block: string | null
        blocks: string | null
      }>(`FETCH ${ROWS_PER_FETCH} FROM changes`)
      for (const row of rows) {
        if (row.limit_block !== null) changes.limit(row, Number(row.limit_block))
        if (row.blocks !== null) changes.mark(row, row.blocks.split(',').map(Number))
      }
      if (rows.length < ROWS_PER_FETCH) break
    }
  } finally {
    await server.query('ROLLBACK')
  }
}

function reasonOfRefusal(error: pg.DatabaseError, user: string): string {
  const reason = `the server does not give its WAL summaries: ${reasonOf(error)}`
  return error.code === INSUFFICIENT_PRIVILEGE
    ? `${reason} (the role ${quoteIdentifier(user)} needs EXECUTE on it)`
    : reason
}

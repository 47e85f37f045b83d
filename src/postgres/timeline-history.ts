import { PgrecallError } from '../errors.ts'
import { type Lsn, parseLsn } from './lsn.ts'
import { historyName } from './wal-file.ts'

/** A stretch of WAL that one timeline contributes to a history. */
export interface TimelineStretch {
  timeline: number
  /** The first position of the stretch; 0 for the oldest timeline. */
  begin: Lsn
  /** Where the history goes over to the next timeline; undefined for the last one, which is open. */
  end: Lsn | undefined
}

/** The way through the timelines, from the oldest ancestor to the timeline itself, without a gap. */
export type TimelineHistory = readonly TimelineStretch[]

const LINE = /^\s*(\d+)\s+([0-9A-Fa-f]+\/[0-9A-Fa-f]+)(?:\s|$)/

const MAX_TIMELINE = 0xffffffff

/**
 * Reads a timeline's history file. The first timeline has none: give an empty text for it.
 * @param text the file; each line names a parent, the LSN where it was left, and a reason in words
 * @param timeline the timeline that the file is of
 * @throws PgrecallError `damaged`, for the same faults for which recovery stops
 * @see readTimeLineHistory in src/backend/access/transam/timeline.c
 */
export function parseHistory(text: string, timeline: number): TimelineHistory {
  const damaged = (fault: string) =>
    new PgrecallError('damaged', `${historyName(timeline)} is not a timeline history: ${fault}`)
  const parents: { timeline: number; end: Lsn }[] = []
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*(#|$)/.test(line)) continue
    const match = LINE.exec(line)
    const parent = Number(match?.[1])
    const end = parseLsn(match?.[2] ?? '')
    if (end === undefined || parent < 1 || parent > MAX_TIMELINE) {
      throw damaged(`"${line.trim()}" does not name a timeline and an LSN`)
    }
    if (parent <= (parents.at(-1)?.timeline ?? 0)) throw damaged('its timelines do not ascend')
    parents.push({ timeline: parent, end })
  }
  if ((parents.at(-1)?.timeline ?? 0) >= timeline)
    throw damaged(`timeline ${timeline} cannot come before its parent`)
  return withoutDetours(parents, timeline)
}

/**
 * A recovery along timeline 2 that stops before 2 began makes a timeline 3 whose file says: left 1 at 0/5000000, left
 * 2 at 0/4000000. That is no fault. The way leads over 1 to 0/4000000, and the stretch of 2 is empty.
 */
function withoutDetours(
  parents: readonly { timeline: number; end: Lsn }[],
  timeline: number,
): TimelineHistory {
  const ends = parents.map((parent) => parent.end)
  for (let at = ends.length - 2; at >= 0; at--) {
    if (ends[at]! > ends[at + 1]!) ends[at] = ends[at + 1]!
  }
  return [...parents.map((parent) => parent.timeline), timeline].map((stretch, at) => ({
    timeline: stretch,
    begin: ends[at - 1] ?? 0n,
    end: ends[at],
  }))
}

import type pg from 'pg'
import { PgrecallError } from '../errors.ts'
import { readServerHistory, type SenderFacts } from '../postgres/replication-slot.ts'
import { numberOf, segmentName, segmentNumber, segmentStart } from '../postgres/wal-file.ts'
import {
  listReceived,
  mendUnfinished,
  type ReceivedFiles,
  type ReceivedSegment,
  readReceivedHeader,
  setAside,
  setStart,
} from './received-files.ts'

/** Where receiving goes on after what is in the folder. */
export interface StartingPoint {
  timeline: number
  /** Number of the segment. */
  segment: bigint
}

/**
 * @returns undefined for an empty folder: then `pg_receivewal` begins where the slot keeps WAL from (from 15 on), or
 *   where the server is
 */
export function startingPoint(files: ReceivedFiles, segmentBytes: number): StartingPoint | undefined {
  const last = files.segments.at(-1)
  if (!last) return undefined
  const number = numberOf(last, segmentBytes)
  return { timeline: last.timeline, segment: last.kind === 'segment' ? number + 1n : number }
}

/**
 * Makes the folder lead `pg_receivewal` to where this server can go on: after a failover, the new server may have left
 * the old timeline before the WAL that was received of it.
 * @returns what was done about it, in words; undefined when nothing was needed
 * @throws PgrecallError `conflict` for a folder of another cluster, `connection` for a server from before a failover
 */
export async function prepareStart(
  client: pg.Client,
  facts: SenderFacts,
  directory: string,
): Promise<string | undefined> {
  const { walSegmentBytes } = facts
  const files = await listReceived(directory)
  const last = files.segments.at(-1)
  const start = startingPoint(files, walSegmentBytes)
  if (!last || !start) return undefined
  await requireSameCluster(directory, files.segments, facts)
  await mendUnfinished(directory, last, walSegmentBytes)
  if (start.timeline === facts.timeline) return undefined
  if (start.timeline > facts.timeline) {
    throw new PgrecallError(
      'connection',
      `the server is on timeline ${facts.timeline}, and WAL of timeline ${start.timeline} was received already`,
      { hint: 'this is a server from before a failover; point "connection" to the new one' },
    )
  }
  const history = await readServerHistory(client, facts.timeline)
  const at = history.findIndex(({ timeline }) => timeline === start.timeline)
  const left = history[at]?.end
  const next = history[at + 1]
  if (left === undefined || !next) {
    throw new PgrecallError(
      'conflict',
      `the history of the server's timeline ${facts.timeline} does not pass timeline ${start.timeline}, of which WAL was received`,
      { hint: `move the files in ${directory} away to begin anew where the slot is` },
    )
  }
  if (segmentStart(start.segment, walSegmentBytes) <= left) return undefined
  await setAside(directory)
  await setStart(directory, segmentName(next.timeline, segmentNumber(left, walSegmentBytes), walSegmentBytes))
  return `the server left timeline ${start.timeline} before the end of what was received of it; going on with timeline ${next.timeline}`
}

async function requireSameCluster(
  directory: string,
  segments: readonly ReceivedSegment[],
  { systemIdentifier, walSegmentBytes }: SenderFacts,
): Promise<void> {
  for (const { name } of segments) {
    const header = await readReceivedHeader(directory, name)
    if (!header) continue
    if (header.systemIdentifier === systemIdentifier && header.segmentBytes === walSegmentBytes) continue
    throw new PgrecallError(
      'conflict',
      `${directory} holds WAL of the PostgreSQL cluster ${header.systemIdentifier}, the server is ${systemIdentifier}`,
      {
        hint: 'give each cluster a folder of its own with wal.receive.directory, or move the old files away',
      },
    )
  }
}

import { segmentNumberOf } from '../catalog/wal-ranges.ts'
import { formatAge } from '../cli/units.ts'
import { lsn } from '../postgres/lsn.ts'
import { segmentStart } from '../postgres/wal-file.ts'
import type { RepositoryFacts, Rpo, ServerFacts } from './facts.ts'

/** In words: within the first second too, something would be lost. */
export const mostLost = ({ seconds }: Pick<Rpo, 'seconds'>) =>
  `at most ${formatAge(1000 * Math.max(1, seconds))} of commits`

type Held = Pick<RepositoryFacts, 'windows' | 'currentTimeline' | 'archived' | 'receiving'>

/**
 * Commits since the last one that can be recovered, up to when the server last wrote any WAL: an idle server loses nothing more
 * with each hour. Pure.
 * @param server as far as it is the one whose archive this is
 * @returns undefined where no backup leads to the current timeline, so that everything would be lost
 */
export function rpoOf(held: Held, server: ServerFacts, segmentBytes: number, now: Date): Rpo | undefined {
  const { windows, currentTimeline, archived, receiving } = held
  const window = windows.findLast(({ timeline }) => timeline === currentTimeline)
  if (!window) return undefined
  const writtenAt = server.walClock?.writtenAt
  const basis = writtenAt === undefined ? 'archive' : 'server'
  const until = Date.parse(writtenAt ?? now.toISOString())
  const between = (since: string, unstoredBytes: number | null): Rpo => {
    const seconds = Math.max(0, Math.round((until - Date.parse(since)) / 1000))
    return { seconds, since, unstoredBytes, basis }
  }
  // Behind a gap it does not matter what is stored.
  if (window.cutBy !== null) return between(window.to.time, null)
  // By positions: what was written while a part was stored is not in it, whatever the clocks say.
  const unstoredBytes = unstoredOf(held, server, segmentBytes)
  if (unstoredBytes === 0) return { seconds: 0, since: null, unstoredBytes, basis }
  if (receiving) return between(window.to.time, unstoredBytes)
  const since = lastStored(held, window.to.time, server)
  const rpo = between(since, unstoredBytes)
  const limit = switchLimit(archived, server)
  return limit === undefined || rpo.seconds <= limit
    ? rpo
    : { ...rpo, seconds: limit, since: new Date(until - 1000 * limit).toISOString() }
}

/** What comes after the last stored segment, or after what is stored of the next one. */
function unstoredOf({ archived, receiving }: Held, server: ServerFacts, segmentBytes: number): number | null {
  if (server.lsn === null || server.inRecovery) return null
  const end = receiving ? positionOf(receiving) : archived && endOf(archived, segmentBytes)
  return end === null ? null : Math.max(0, Number(lsn(server.lsn) - end))
}

const positionOf = ({ lsn: position }: NonNullable<Held['receiving']>) =>
  position === null ? null : lsn(position)

const endOf = ({ lastSegment }: NonNullable<Held['archived']>, segmentBytes: number) =>
  segmentStart(segmentNumberOf(lastSegment, segmentBytes) + 1n, segmentBytes)

/** The last commit that is stored; or when the last stored segment was full, where the server still tells that. */
function lastStored({ archived }: Held, commit: string, { walClock }: ServerFacts): string {
  const completed = walClock?.completed
  const isStored = completed != null && completed.file === archived?.lastSegment
  return isStored && Date.parse(completed.time) > Date.parse(commit) ? completed.time : commit
}

/** A server whose segments are all stored ends the next one this long after a commit. */
function switchLimit(archived: Held['archived'], server: ServerFacts): number | undefined {
  const { archiveTimeoutSeconds, archiveMode, waiting, walClock } = server
  const isAllStored = archived?.behindSegments === 0 && waiting?.segments === 0
  const archives = archiveMode === 'on' || archiveMode === 'always'
  return isAllStored && archives && walClock ? (archiveTimeoutSeconds ?? undefined) : undefined
}

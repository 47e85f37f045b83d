import type { Catalog } from '../catalog/catalog.ts'
import { isThinned } from '../catalog/wal-ranges.ts'
import { lsn } from '../postgres/lsn.ts'
import type { Window } from '../status/facts.ts'
import { stretchesOf } from '../status/windows.ts'
import type { RecoverableSpan } from './history.ts'
import { LsnClock } from './lsn-clock.ts'

/** What status found out by reading the last WAL. */
export function spansOfWindows(windows: readonly Window[]): RecoverableSpan[] {
  return windows.map(({ timeline, from, to, cutBy, isThinned }) => ({
    timeline,
    from: Date.parse(from.time),
    to: Date.parse(to.time),
    endsWith: isThinned ? 'thinned' : cutBy === null ? 'archive' : 'gap',
  }))
}

/**
 * The same as far as the catalog tells it: a stretch ends about when its last WAL was stored. Pure.
 * @returns the spans of each timeline in the order of time, and the backups that cannot be recovered
 */
export function spansOfCatalog(catalog: Catalog): { spans: RecoverableSpan[]; unusable: Set<string> } {
  const clock = new LsnClock(catalog)
  const { stretches, unusable } = stretchesOf(catalog)
  const spans = stretches.map(({ timeline, backups, legs, end, cutBy }) => {
    const [from, newest] = [Date.parse(backups[0]!.stop.time), backups.at(-1)!]
    const reached = Date.parse(newest.stop.time)
    const isPast = end > lsn(newest.stop.lsn)
    const written = legs.at(-1)?.timeline ?? timeline
    const to = isPast ? (clock.momentOf(written, end) ?? reached) : reached
    return { timeline, from, to: Math.max(to, reached), endsWith: endOf(cutBy, catalog) }
  })
  return { spans, unusable: new Set(unusable.map(({ id }) => id)) }
}

function endOf(cutBy: string | undefined, { wal }: Catalog): RecoverableSpan['endsWith'] {
  if (cutBy === undefined) return 'archive'
  const timeline = Number.parseInt(cutBy.slice(0, 8), 16)
  return isThinned(
    wal.find((entry) => entry.timeline === timeline),
    cutBy,
  )
    ? 'thinned'
    : 'gap'
}

import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { Chains } from '../catalog/chains.ts'
import { lsn } from '../postgres/lsn.ts'
import { LsnClock } from './lsn-clock.ts'

/** What a repository has gone through, ready to be drawn. All moments are milliseconds since 1970. */
export interface History {
  /** When the oldest thing in it was. */
  begin: number
  now: number
  /** By their numbers, those that are left of which there is more than a history. */
  timelines: TimelineRow[]
  dumps: Mark[]
}

export type Kind = 'full' | 'diff' | 'incr' | 'logical'
export const KINDS = ['full', 'diff', 'incr', 'logical'] as const

/** A backup, at the moment when it was consistent. */
export interface Mark {
  id: string
  kind: Kind
  at: number
  storedBytes: number
  /** It cannot be recovered. */
  isBroken: boolean
}

export interface TimelineRow {
  timeline: number
  /** Where it comes from: which timeline was left, about when that one was there, and when this one goes on. */
  branch: { from: number; leftAt: number; goesOnAt: number } | undefined
  spans: Span[]
  marks: Mark[]
  /** What its backups build upon; also on other timelines. */
  links: Link[]
}

/**
 * `window`: to any moment of it one can go back. `shared`: that part of a window which lies on the timelines before. `gap`:
 * what is lost, as WAL is missing. `between`: no WAL, as none is kept between old backups.
 */
export interface Span {
  kind: 'window' | 'shared' | 'gap' | 'between'
  from: number
  to: number
}

/** A backup builds upon another one. */
export interface Link {
  lower: Mark & { timeline: number }
  upper: Mark
}

/** A stretch of time to any moment of which one can go back on a timeline. */
export interface RecoverableSpan {
  timeline: number
  from: number
  to: number
  /** `gap`: WAL is missing, and later WAL is there. `thinned`: retention let go the WAL behind it. */
  endsWith: 'archive' | 'gap' | 'thinned'
}

/**
 * Puts together what is drawn of a repository. Pure.
 * @param windows of each timeline in the order of time
 * @param unusable the ids of the backups that cannot be recovered
 */
export function historyOf(
  catalog: Pick<Catalog, 'backups' | 'logical' | 'wal' | 'walSegmentBytes'>,
  windows: readonly RecoverableSpan[],
  unusable: ReadonlySet<string>,
  now: number,
): History {
  const clock = new LsnClock(catalog)
  const chains = new Chains(catalog.backups)
  const marks = new Map(catalog.backups.map((backup) => [backup, markOf(backup, unusable)]))
  const timelines = timelinesOf(catalog).map((timeline, index, { length }): TimelineRow => {
    const branch = branchOf(timeline, catalog, clock)
    const own = catalog.backups.filter((backup) => backup.timeline === timeline)
    const links = own.flatMap((backup): Link[] => {
      const lower = chains.parentOf(backup)
      if (!lower) return []
      return [{ lower: { ...marks.get(lower)!, timeline: lower.timeline }, upper: marks.get(backup)! }]
    })
    const spans = spansOf(
      windows.filter((window) => window.timeline === timeline),
      branch,
      index === length - 1 ? now : undefined,
    )
    return { timeline, branch, spans, marks: own.map((backup) => marks.get(backup)!), links }
  })
  const dumps = catalog.logical.map(
    ({ id, finishedAt, storedBytes }): Mark => ({
      ...{ id, kind: 'logical', at: Date.parse(finishedAt), storedBytes, isBroken: false },
    }),
  )
  const begins = [
    ...timelines.flatMap(({ marks: own }) => own.map(({ at }) => at)),
    ...timelines.flatMap(({ spans }) => spans.map(({ from }) => from)),
    ...dumps.map(({ at }) => at),
  ]
  return { begin: begins.reduce((first, at) => Math.min(first, at), now), now, timelines, dumps }
}

const markOf = ({ id, type, stop, storedBytes }: BackupSummary, unusable: ReadonlySet<string>): Mark => ({
  ...{ id, kind: type, at: Date.parse(stop.time), storedBytes, isBroken: unusable.has(id) },
})

function timelinesOf({ wal, backups }: Pick<Catalog, 'wal' | 'backups'>): number[] {
  const stored = wal.filter(({ ranges, receiving }) => ranges.length > 0 || receiving)
  return [...new Set([...stored, ...backups].map(({ timeline }) => timeline))].toSorted((a, b) => a - b)
}

/** Where it was left, the older timeline's clock tells; when the newer one went on, its own. */
function branchOf(timeline: number, { wal }: Pick<Catalog, 'wal'>, clock: LsnClock): TimelineRow['branch'] {
  const left = wal.find((entry) => entry.timeline === timeline)?.history?.at(-1)
  if (!left) return undefined
  const at = lsn(left.switchedAt)
  const goesOnAt = clock.momentOf(timeline, at)
  const leftAt = clock.momentOf(left.timeline, at) ?? goesOnAt
  if (goesOnAt === undefined || leftAt === undefined) return undefined
  return { from: left.timeline, leftAt: Math.min(leftAt, goesOnAt), goesOnAt }
}

/** @param now of the timeline that goes on: what is lost of it is lost until the next backup */
function spansOf(
  windows: readonly RecoverableSpan[],
  branch: TimelineRow['branch'],
  now: number | undefined,
): Span[] {
  return windows.flatMap((window, index): Span[] => {
    const next = windows[index + 1]
    const spans = branch ? partedAt(branch, window) : [{ ...window, kind: 'window' as const }]
    const to = next?.from ?? (window.endsWith === 'gap' ? now : undefined)
    if (window.endsWith === 'archive' || to === undefined || to <= window.to) return spans.map(spanOf)
    const kind = window.endsWith === 'thinned' ? 'between' : 'gap'
    return [...spans.map(spanOf), { kind, from: window.to, to }]
  })
}

const spanOf = ({ kind, from, to }: Span): Span => ({ kind, from, to })

function partedAt({ leftAt, goesOnAt }: NonNullable<TimelineRow['branch']>, { from, to }: RecoverableSpan) {
  const shared: Span[] = from < leftAt ? [{ kind: 'shared', from, to: Math.min(leftAt, to) }] : []
  const begin = Math.max(from, goesOnAt)
  const own: Span[] = to > begin ? [{ kind: 'window', from: begin, to }] : []
  // One that ends where the timeline begins still leads there.
  return shared.length + own.length > 0 ? [...shared, ...own] : [{ kind: 'window' as const, from, to }]
}

/** So many timelines are drawn. */
const MOST_ROWS = 10

/** The timelines of which something lies between two moments, the newest ones. */
export function shownRows({ timelines }: History, { from, to }: { from: number; to: number }): TimelineRow[] {
  return timelines
    .filter(
      ({ spans, marks }) =>
        spans.some((span) => span.to >= from && span.from <= to) ||
        marks.some(({ at }) => at >= from && at <= to),
    )
    .slice(-MOST_ROWS)
}

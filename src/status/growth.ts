import type { Catalog } from '../catalog/catalog.ts'
import { segmentNumberOf, type TimelineWal } from '../catalog/wal-ranges.ts'
import { type Lsn, lsn } from '../postgres/lsn.ts'
import { segmentStart } from '../postgres/wal-file.ts'

/** What a cluster adds to a repository, in stored bytes a day. What retention removes is not taken off. */
export interface Growth {
  /** How many days were looked at: those since the first backup or WAL, at least one and at most seven. */
  days: number
  backupBytesPerDay: number
  logicalBytesPerDay: number
  walBytesPerDay: number
  /** All of them. */
  storedBytesPerDay: number
  /** How the cluster itself grows, or shrinks; null where no two backups lie a day apart. */
  clusterBytesPerDay: number | null
}

const DAY_MS = 24 * 60 * 60 * 1000
const MOST_DAYS = 7

/** What a rate a day is reckoned over: at least one day, as minutes of work tell nothing of a day. @param ms a span */
export const daysOf = (ms: number) => Math.max(1, ms / DAY_MS)

export type GrowthSource = Pick<Catalog, 'backups' | 'logical' | 'wal' | 'walSegmentBytes'>

/**
 * How fast what is stored of a cluster grows, by the backups and the WAL of the last days. Pure.
 * @returns undefined where nothing is stored
 */
export function growthOf(catalog: GrowthSource, now: Date): Growth | undefined {
  const { backups, logical, wal } = catalog
  const begins = [
    ...[backups[0], logical[0]].flatMap((backup) => backup?.startedAt ?? []),
    ...wal.flatMap(({ ranges }) => ranges[0]?.firstStoredAt ?? []),
  ].map((iso) => Date.parse(iso))
  if (begins.length === 0) return undefined
  const days = Math.min(MOST_DAYS, daysOf(now.getTime() - Math.min(...begins)))
  const since = now.getTime() - days * DAY_MS
  const bytesOf = (all: readonly Stored[]) =>
    recent(all, since).reduce((sum, each) => sum + each.storedBytes, 0)
  const perDay = [bytesOf(backups), bytesOf(logical), storedWalSince(since, catalog)].map(
    (bytes) => bytes / days,
  )
  const [backupBytesPerDay, logicalBytesPerDay, walBytesPerDay] = perDay as [number, number, number]
  return {
    days,
    backupBytesPerDay,
    logicalBytesPerDay,
    walBytesPerDay,
    storedBytesPerDay: backupBytesPerDay + logicalBytesPerDay + walBytesPerDay,
    clusterBytesPerDay: clusterGrowth(catalog),
  }
}

interface Stored {
  finishedAt: string
  storedBytes: number
}

/** Backups are in the order of time, and of very many only the last are looked at. */
function recent<Kind extends { finishedAt: string }>(all: readonly Kind[], since: number): Kind[] {
  const last = all.findLastIndex(({ finishedAt }) => Date.parse(finishedAt) < since)
  return all.slice(last + 1)
}

/** Where the WAL was at a moment. */
interface Mark {
  at: number
  lsn: Lsn
}

/** Each backup tells it twice, and the archive at its ends; in the order of time, with one backup from before. */
function walMarks({ backups, wal, walSegmentBytes }: GrowthSource, since: number): Mark[] {
  const ends = wal.flatMap(({ ranges }): Mark[] => {
    const [first, last] = [ranges[0], ranges.at(-1)]
    if (!first || !last) return []
    const [begin, end] = [
      segmentNumberOf(first.first, walSegmentBytes),
      segmentNumberOf(last.last, walSegmentBytes) + 1n,
    ]
    return [
      { at: Date.parse(first.firstStoredAt), lsn: segmentStart(begin, walSegmentBytes) },
      { at: Date.parse(last.newestStoredAt), lsn: segmentStart(end, walSegmentBytes) },
    ]
  })
  const told = backups.slice(-recent(backups, since).length - 1)
  const positions = told.flatMap(({ start, stop }) => [start, stop])
  return [...positions.map((each): Mark => ({ at: Date.parse(each.time), lsn: lsn(each.lsn) })), ...ends]
    .filter(({ at }) => Number.isFinite(at))
    .toSorted((a, b) => a.at - b.at)
}

/** Between two marks WAL is taken to be written evenly. Where a recovery went back, nothing is written. */
function storedWalSince(since: number, catalog: GrowthSource): number {
  const marks = walMarks(catalog, since)
  let written = 0
  for (const [index, mark] of marks.entries()) {
    const before = marks[index - 1]
    if (!before || mark.at <= since || mark.lsn <= before.lsn) continue
    const share = (mark.at - Math.max(before.at, since)) / (mark.at - before.at || 1)
    written += Number(mark.lsn - before.lsn) * Math.min(1, share)
  }
  return written * compressionOf(catalog.wal, catalog.walSegmentBytes)
}

/** The share that is left of a segment when it is stored. */
function compressionOf(wal: readonly TimelineWal[], segmentBytes: number): number {
  const runs = wal.flatMap(({ ranges }) => ranges)
  const segments = runs.reduce((sum, run) => sum + run.segments, 0)
  const storedBytes = runs.reduce((sum, run) => sum + run.storedBytes, 0)
  return segments === 0 ? 0 : storedBytes / (segments * segmentBytes)
}

/** From the newest backup that is seven days older than the newest of all, or else from the oldest. */
function clusterGrowth({ backups }: GrowthSource): number | null {
  const newest = backups.at(-1)
  if (!newest) return null
  const end = Date.parse(newest.stop.time)
  const spanOf = (backup: (typeof backups)[number]) => (end - Date.parse(backup.stop.time)) / DAY_MS
  const base = backups.findLast((backup) => spanOf(backup) >= MOST_DAYS) ?? backups[0]!
  const span = spanOf(base)
  return span >= 1 ? (clusterBytesOf(newest) - clusterBytesOf(base)) / span : null
}

/** What a restore writes. */
export const clusterBytesOf = ({ clusterBytes, dataBytes }: { clusterBytes?: number; dataBytes: number }) =>
  clusterBytes ?? dataBytes

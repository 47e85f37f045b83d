import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { Chains } from '../catalog/chains.ts'
import { spanOf } from '../catalog/parts-of-runs.ts'
import type { Span } from '../catalog/segment-spans.ts'
import { firstWhere } from '../catalog/sorted-search.ts'
import { lacksHistory, segmentNumberOf, type TimelineWal } from '../catalog/wal-ranges.ts'
import { type Lsn, lsn } from '../postgres/lsn.ts'
import { segmentNumber, segmentStart } from '../postgres/wal-file.ts'
import { byKey } from './by-key.ts'

/** WAL of one timeline without a hole, and the backups from which a recovery goes into it. */
export interface Stretch {
  timeline: number
  /** In the order of the WAL, one at least; the first ones may be of older timelines that lead here without a hole. */
  backups: BackupSummary[]
  /** The first position that it does not cover. */
  end: Lsn
  /** Whether it has more than what makes its only backup consistent. */
  goesOn: boolean
  /** When the newest of it was stored, by the store's clock; ISO 8601. No transaction in it is newer. */
  storedUntil: string
}

/**
 * All stretches that some backup leads into, by timelines. To what moments a recovery leads is what they tell; a timeline
 * whose history is lost has none, and a backup whose chain is broken leads nowhere. Each costs what it is long, since of
 * archives that were thinned out there may be thousands. Pure.
 */
export function stretchesOf(catalog: Pick<Catalog, 'backups' | 'wal' | 'walSegmentBytes'>): Stretch[] {
  const archive = archiveOf(catalog)
  return catalog.wal
    .filter((entry) => !lacksHistory(entry))
    .flatMap((entry) =>
      archive.runs.get(entry.timeline)!.flatMap((run) => stretchOf(entry, run, archive) ?? []),
    )
}

/** What the questions are asked of. */
interface Archive {
  segmentBytes: number
  runs: ReadonlyMap<number, Run[]>
  /** Those of each timeline whose chain is whole, by where they begin. */
  backups: ReadonlyMap<number, Placed[]>
}

/** Segments without a hole; of the last one, maybe only a part is there yet. */
interface Run extends Span {
  /** Where the whole segments end. */
  wholeEnd: Lsn
  storedUntil: string
}

interface Placed {
  backup: BackupSummary
  /** The number of the segment in which it begins. */
  first: bigint
  stop: Lsn
}

function archiveOf({
  backups,
  wal,
  walSegmentBytes: segmentBytes,
}: Pick<Catalog, 'backups' | 'wal' | 'walSegmentBytes'>): Archive {
  const chains = new Chains(backups)
  const placed = backups
    .filter((backup) => chains.missingOf(backup) === undefined)
    .map((backup) => {
      const first = segmentNumberOf(backup.start.walFile, segmentBytes)
      return { backup, first, stop: lsn(backup.stop.lsn) }
    })
    .sort((a, b) => compare(a.first, b.first))
  return {
    segmentBytes,
    runs: new Map(wal.map((entry) => [entry.timeline, runsOf(entry, segmentBytes)])),
    backups: byKey(placed.map((each) => [each.backup.timeline, each])),
  }
}

function runsOf({ ranges, receiving }: TimelineWal, segmentBytes: number): Run[] {
  const runs = ranges.map((range) => {
    const span = spanOf(range, segmentBytes)
    const wholeEnd = segmentStart(span.last + 1n, segmentBytes)
    return { ...span, wholeEnd, storedUntil: range.newestStoredAt }
  })
  if (!receiving) return runs
  const last = segmentNumberOf(receiving.segment, segmentBytes)
  const before = runs.at(-1)
  if (before?.last === last - 1n)
    return [...runs.slice(0, -1), { ...before, last, storedUntil: receiving.storedAt }]
  const wholeEnd = segmentStart(last, segmentBytes)
  return [...runs, { first: last, last, wholeEnd, storedUntil: receiving.storedAt }]
}

function stretchOf(entry: TimelineWal, run: Run, archive: Archive): Stretch | undefined {
  const { timeline } = entry
  const { segmentBytes } = archive
  const backups = [
    ...backupsLeadingTo(entry, run, archive),
    ...backupsBetween(timeline, run, run.wholeEnd, archive),
  ]
  const newest = backups.at(-1)
  return (
    newest && {
      timeline,
      backups,
      end: segmentStart(run.last + 1n, segmentBytes),
      goesOn: backups.length > 1 || run.last > segmentNumberOf(newest.stop.walFile, segmentBytes),
      storedUntil: run.storedUntil,
    }
  )
}

/**
 * The backups of older timelines from which a recovery comes into a run. The segment in which a timeline is left is read of the
 * newer one, which begins with what the older one had of it; where several are left in one segment, of the newest.
 */
function backupsLeadingTo({ history = [] }: TimelineWal, run: Run, archive: Archive): BackupSummary[] {
  const way = history.map(({ timeline, switchedAt }) => {
    const left = lsn(switchedAt)
    return { timeline, left, segment: segmentNumber(left, archive.segmentBytes) }
  })
  let found: BackupSummary[] = []
  let next = way.at(-1)?.segment
  if (next === undefined || next < run.first || run.last < next) return []
  for (let at = way.length - 1; at >= 0; at--) {
    const { timeline, left } = way[at]!
    const before = runWith(next - 1n, archive.runs.get(timeline) ?? [])
    const span = { first: before?.first ?? next, last: next }
    const end = left < run.wholeEnd ? left : run.wholeEnd
    found = [...backupsBetween(timeline, span, end, archive), ...found]
    const begin = way[at - 1]?.segment
    if (begin === next) continue
    if (begin === undefined || !before || before.first > begin) break
    next = begin
  }
  return found
}

function runWith(number: bigint, runs: readonly Run[]): Run | undefined {
  const run = runs[firstWhere(runs, ({ last }) => last >= number)]
  return run && run.first <= number ? run : undefined
}

/** Those of a timeline that begin in one of some segments, and end no later than at a position. */
function backupsBetween(
  timeline: number,
  { first, last }: Span,
  end: Lsn,
  { backups }: Archive,
): BackupSummary[] {
  const placed = backups.get(timeline) ?? []
  const from = firstWhere(placed, (candidate) => candidate.first >= first)
  const to = firstWhere(placed, (candidate) => candidate.first > last)
  return placed
    .slice(from, to)
    .filter(({ stop }) => stop <= end)
    .sort((a, b) => compare(a.stop, b.stop))
    .map(({ backup }) => backup)
}

const compare = (a: bigint, b: bigint) => (a < b ? -1 : a > b ? 1 : 0)

import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { ownWalOf } from '../catalog/own-wal.ts'
import { partOfRun, spanOf } from '../catalog/parts-of-runs.ts'
import { isInSpans, type Span, withoutSpans } from '../catalog/segment-spans.ts'
import { segmentNumberOf, type TimelineWal, type WalRun } from '../catalog/wal-ranges.ts'
import { unreadableIn } from './faults.ts'
import { type Situation, undamaged } from './holds.ts'
import { hasBackupRule, type RetentionRules } from './rules.ts'
import { stretchesOf } from './stretches.ts'
import { inWalOrder, lastEndedBy } from './wal-order.ts'
import { reachingTo } from './window.ts'

/** The WAL that has to stay. */
export interface NeededWal {
  /** Segments with this number or a higher one, on whatever timeline. */
  from: bigint
  /** The lower ones that make older backups consistent, by the timeline; in order. */
  own: ReadonlyMap<number, Span[]>
}

/**
 * Which WAL the backups need that stay: all of it from the first of them on; with the rule `wal`, from the newest one on that
 * had ended when that time began. Of older ones only what makes them consistent is needed then. Pure.
 * @returns undefined where no WAL may go: nobody asked for it, or it is not known what is needed
 */
export function neededWal(
  catalog: Catalog,
  staying: readonly BackupSummary[],
  rules: RetentionRules,
  situation: Situation,
): NeededWal | undefined {
  if (!hasBackupRule(rules) && rules.wal === undefined) return undefined
  if (staying.length === 0 || unreadableIn(catalog).length > 0 || foreignOf(catalog)) return undefined
  if (rules.wal === undefined) return { from: firstStart(staying), own: new Map() }
  // What the window promises needs its WAL.
  const begin = situation.now.getTime() - Math.max(rules.wal, rules.window ?? 0)
  const from = firstStart(followedOf(catalog, staying, begin, situation))
  return { from, own: ownWalOf(staying, catalog.wal, catalog.walSegmentBytes) }
}

/** A backup whose WAL has segments of another size, so that their numbers do not compare. */
export function foreignOf({ backups, walSegmentBytes }: Catalog): BackupSummary | undefined {
  return backups.find((backup) => backup.walSegmentBytes !== walSegmentBytes)
}

export function isNeeded({ from, own }: NeededWal, timeline: number, number: bigint): boolean {
  return number >= from || isInSpans(number, own.get(timeline) ?? [])
}

/** The number of the first segment that one of the backups begins with. @param backups one at least */
function firstStart(backups: readonly BackupSummary[]): bigint {
  return backups
    .map(({ start, walSegmentBytes }) => segmentNumberOf(start.walFile, walSegmentBytes))
    .reduce((least, start) => (start < least ? start : least))
}

/**
 * The backups whose WAL goes on: of each stretch that reaches beyond `begin` those since then and the newest before, and what
 * is newer than the newest before of all, whether or not it can be recovered yet. Also what is being read, as nobody here
 * knows how far. One at least.
 * @param begin milliseconds since 1970
 */
function followedOf(
  catalog: Catalog,
  staying: readonly BackupSummary[],
  begin: number,
  situation: Situation,
): BackupSummary[] {
  const { now, readers } = situation
  const stretches = stretchesOf({ ...catalog, backups: undamaged(staying, situation) })
  const leading = new Set(stretches.flatMap(({ backups }) => backups))
  const ordered = inWalOrder(staying)
  const newest = lastEndedBy(
    ordered.filter((backup) => leading.has(backup)),
    begin,
    now,
  )
  const read = new Set(readers.map(({ backup }) => backup))
  return [
    ...since(newest, ordered),
    // What has no more than its backup's own WAL keeps that anyway, whenever it was stored.
    ...reachingTo(stretches, begin)
      .filter(({ goesOn, timeline, backups: [first] }) => goesOn || first!.timeline !== timeline)
      .flatMap(({ backups }) => since(lastEndedBy(backups, begin, now), backups)),
    ...staying.filter(({ id }) => read.has(id)),
  ]
}

/** All where there is no first one. */
function since(first: BackupSummary | undefined, ordered: readonly BackupSummary[]): BackupSummary[] {
  return ordered.slice(first ? ordered.indexOf(first) : 0)
}

/** The runs of each timeline that stay, and those that go. The bytes of a part of a run are a share of them. */
export function dividedWal(
  { wal, walSegmentBytes }: Catalog,
  needed: NeededWal | undefined,
): { timeline: TimelineWal; stays: WalRun[]; goes: WalRun[] }[] {
  return wal.map((timeline) => {
    const { ranges, timeline: number } = timeline
    if (!needed) return { timeline, stays: ranges, goes: [] }
    const goes = ranges.flatMap((range) => {
      const { first, last } = spanOf(range, walSegmentBytes)
      const below = { first, last: last < needed.from ? last : needed.from - 1n }
      return withoutSpans(below, needed.own.get(number) ?? []).map((span) =>
        partOfRun(range, span, number, walSegmentBytes),
      )
    })
    const holes = goes.map((run) => spanOf(run, walSegmentBytes))
    const stays = ranges.flatMap((range) =>
      withoutSpans(spanOf(range, walSegmentBytes), holes).map((span) =>
        partOfRun(range, span, number, walSegmentBytes),
      ),
    )
    return { timeline, stays, goes }
  })
}

import type { Catalog } from '../catalog/catalog.ts'
import { firstWhere } from '../catalog/sorted-search.ts'
import { segmentNumberOf, type TimelineWal } from '../catalog/wal-ranges.ts'
import { type Lsn, lsn } from '../postgres/lsn.ts'
import { segmentStart } from '../postgres/wal-file.ts'

interface Point {
  at: Lsn
  /** Milliseconds since 1970. */
  time: number
}

/**
 * Tells about when a position of a timeline was written: between the backups and the ends of the runs of its WAL, whose times
 * are known, as if WAL had been written evenly. Pure.
 */
export class LsnClock {
  readonly #points = new Map<number, Point[]>()

  constructor({ backups, wal, walSegmentBytes }: Pick<Catalog, 'backups' | 'wal' | 'walSegmentBytes'>) {
    for (const { timeline, start, stop } of backups) this.#add(timeline, [start, stop].map(pointOf))
    for (const entry of wal) this.#add(entry.timeline, pointsOf(entry, walSegmentBytes))
    for (const [timeline, points] of this.#points) this.#points.set(timeline, inOrder(points))
  }

  /** @returns milliseconds since 1970; undefined of a timeline of which nothing is stored */
  momentOf(timeline: number, position: Lsn): number | undefined {
    const points = this.#points.get(timeline) ?? []
    const index = firstWhere(points, ({ at }) => at >= position)
    const after = points[index]
    const before = after?.at === position ? after : points[index - 1]
    if (!before || !after || before === after) return (before ?? after)?.time
    const share = Number(position - before.at) / Number(after.at - before.at)
    return before.time + share * (after.time - before.time)
  }

  #add(timeline: number, points: Point[]): void {
    const all = this.#points.get(timeline) ?? []
    this.#points.set(timeline, all)
    all.push(...points)
  }
}

const pointOf = (place: { lsn: string; time: string }): Point => ({
  at: lsn(place.lsn),
  time: Date.parse(place.time),
})

function pointsOf({ ranges, receiving }: TimelineWal, segmentBytes: number): Point[] {
  const startOf = (segment: string, plus = 0n) =>
    segmentStart(segmentNumberOf(segment, segmentBytes) + plus, segmentBytes)
  return [
    ...ranges.flatMap((run) => [
      // A segment is stored once it is full.
      { at: startOf(run.first, 1n), time: Date.parse(run.firstStoredAt) },
      { at: startOf(run.last, 1n), time: Date.parse(run.newestStoredAt) },
    ]),
    ...(receiving ? [{ at: startOf(receiving.segment), time: Date.parse(receiving.storedAt) }] : []),
  ]
}

/**
 * WAL may have been stored long after it was written, as where it was copied from another repository; but it was written before
 * whatever comes behind it.
 */
function inOrder(points: readonly Point[]): Point[] {
  const ordered = points.toSorted((a, b) => (a.at < b.at ? -1 : a.at > b.at ? 1 : a.time - b.time))
  let latest = Number.POSITIVE_INFINITY
  return ordered
    .toReversed()
    .map(({ at, time }) => {
      latest = Math.min(latest, time)
      return { at, time: latest }
    })
    .reverse()
}

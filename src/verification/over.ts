import { isInSpans, type Span } from '../catalog/segment-spans.ts'
import type { DamagedObject } from '../catalog/verification-file.ts'
import type { AnyRecord } from './damage.ts'
import type { KnownSpans } from './known-spans.ts'
import { storedSpans } from './missing-wal.ts'
import { placeOf, segmentAt } from './places.ts'
import type { Stock } from './stock.ts'

/** What a look at everything has seen. */
export interface Seen {
  cluster: string
  walSegmentBytes: number
  /** Ids of the backups that are there. */
  present: ReadonlySet<string>
  /** A backup's record; undefined where it cannot be read. */
  recordOf: (id: string) => AnyRecord | undefined
  /** The segments that are there, or are known to be missing, by the timeline, in order. */
  stored: ReadonlyMap<number, readonly Span[]>
}

/**
 * Whether damage that was found earlier, and not now, is over without its object having been read and found sound: the object is
 * gone, or is of those that are looked at each time, however small the part that is read. Pure.
 */
export function isOver(
  { key, isContent }: DamagedObject,
  { cluster, walSegmentBytes, present, recordOf, stored }: Seen,
): boolean {
  const place = placeOf(cluster, key)
  if (place?.kind === 'object') {
    const objects = recordOf(place.backup)?.objects
    return (
      !present.has(place.backup) ||
      (objects !== undefined && !objects.some(({ name }) => name === place.name))
    )
  }
  // That a restore of it went wrong, only a restore can take back.
  if (place?.kind === 'backup' && isContent) return !present.has(place.backup)
  const segment = segmentAt(cluster, key, walSegmentBytes)
  return !segment || !isInSpans(segment.number, stored.get(segment.timeline) ?? [])
}

/** Whether it is a segment that was read now, as deep as it was found damaged: its first record may begin in the one before. Pure. */
export function isReadSegment(
  { key, isContent }: DamagedObject,
  read: KnownSpans,
  { catalog, decode }: Pick<Stock, 'catalog' | 'decode'>,
): boolean {
  const { cluster, wal, walSegmentBytes } = catalog
  const segment = segmentAt(cluster, key, walSegmentBytes)
  if (!segment || !read.has(segment.timeline, segment.number)) return false
  if (!isContent) return true
  const before = segment.number - 1n
  const isFirst = !isInSpans(before, storedSpans(wal, segment.timeline, walSegmentBytes))
  return decode && (isFirst || read.has(segment.timeline, before))
}

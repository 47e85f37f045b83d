import { isInSpans, type Span } from '../catalog/segment-spans.ts'
import type { AnyRecord } from './damage.ts'
import { placeOf, segmentAt } from './places.ts'

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
export function isOver(key: string, { cluster, walSegmentBytes, present, recordOf, stored }: Seen): boolean {
  const place = placeOf(cluster, key)
  if (place?.kind === 'object') {
    const objects = recordOf(place.backup)?.objects
    return (
      !present.has(place.backup) ||
      (objects !== undefined && !objects.some(({ name }) => name === place.name))
    )
  }
  const segment = segmentAt(cluster, key, walSegmentBytes)
  return !segment || !isInSpans(segment.number, stored.get(segment.timeline) ?? [])
}

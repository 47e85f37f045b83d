import type { Catalog } from '../catalog/catalog.ts'
import { isInSpans, type Span } from '../catalog/segment-spans.ts'
import type { DamagedObject } from '../catalog/verification-file.ts'
import type { AnyRecord } from './damage.ts'
import type { KnownSpans } from './known-spans.ts'
import { storedOrMissing, storedSpans } from './missing-wal.ts'
import { placeOf, segmentAt } from './places.ts'
import type { Stock } from './stock.ts'

/**
 * Forgets, after a look at everything, what is gone, and damage that is over though its object was not read and found sound.
 * @param recordOf a backup's record; undefined where it cannot be read
 * @param isLeft whether an object was found damaged now, or could not be looked into
 */
export function forgetOver(
  { catalog, missing, known }: Stock,
  recordOf: (id: string) => AnyRecord | undefined,
  isLeft: (key: string) => boolean,
): void {
  const { backups, logical, damaged, wal, walSegmentBytes } = catalog
  const present = new Set([...backups, ...logical, ...damaged].map(({ id }) => id))
  const stored = storedOrMissing(wal, missing, walSegmentBytes)
  known.forgetBackups(present)
  known.forgetWal(stored)
  const seen = { ...catalog, present, recordOf, stored }
  known.forgetDamage((damage) => !isLeft(damage.key) && isOver(damage, seen))
}

interface Seen extends Pick<Catalog, 'cluster' | 'walSegmentBytes'> {
  present: ReadonlySet<string>
  recordOf: (id: string) => AnyRecord | undefined
  stored: ReadonlyMap<number, readonly Span[]>
}

/** The object is gone, or is of those that are looked at each time, however small the part that is read. */
function isOver(
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

import type { TimelineWal } from '../catalog/wal-ranges.ts'
import { formatBytes } from '../cli/units.ts'

/** How far the segment that is being received is stored; its stored bytes are compressed ones. */
export function receivingText({
  segment,
  storedBytes,
  storedAt,
}: NonNullable<TimelineWal['receiving']>): string {
  return `Segment ${segment} is being received: stored as ${formatBytes(storedBytes)} at ${seconds(storedAt)}.`
}

/** A moment without what is below a second. */
export const seconds = (iso: string) => iso.replace(/\.\d+Z$/, 'Z')

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

/**
 * The first whole second from which on one can recover: what is told can be asked for, as `--time` takes a window's begin and what
 * lies behind it, and not a moment before.
 */
export function secondsFrom(iso: string): string {
  const isWhole = !/\.\d*[1-9]\d*Z$/.test(iso)
  return seconds(isWhole ? iso : new Date(Date.parse(iso) + 1000).toISOString())
}

/** The whole seconds of a window; where there is none in it, the one behind it. */
export function secondsOf(from: string, to: string): [from: string, to: string] {
  const [first, last] = [secondsFrom(from), seconds(to)]
  return [first, last < first ? first : last]
}

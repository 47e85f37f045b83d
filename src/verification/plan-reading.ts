import type { KnownSpan } from './known-spans.ts'

/** An object of a backup, by its place in the record. */
export interface ShelfObject {
  backup: string
  index: number
  bytes: number
  /** When it was read last; undefined for never. */
  at: string | undefined
  /** Whether it was found damaged, and not sound since. */
  isDamaged: boolean
}

/** Stored segments that were read at the same time. */
export interface ShelfSpan extends KnownSpan {
  /** When a host without the key, as this one is, compared their sizes last; undefined for never. */
  sizedAt?: string | undefined
  /** Stored bytes of all of them. */
  bytes: number
}

export interface ReadingPlan {
  /** The places in the record of each backup. */
  objects: Map<string, number[]>
  spans: ShelfSpan[]
  bytes: number
  /** What there is, and what of it was never read. */
  totalBytes: number
  neverBytes: number
}

/** What is to be read of all: a part of the bytes, or what was not read since a moment. */
export type Share = { fraction: number } | { since: string } | 'all'

/**
 * What is read this time. Of a part: what was found damaged, and then what was read longest ago, until the part is full; so all has
 * its turn. Pure.
 */
export function planReading(
  objects: Iterable<ShelfObject>,
  spans: readonly ShelfSpan[],
  share: Share,
): ReadingPlan {
  const all: (ShelfObject | ShelfSpan)[] = [...objects, ...spans]
  const totalBytes = bytesIn(all)
  const neverBytes = bytesIn(all.filter(({ at }) => at === undefined))
  const chosen =
    share === 'all' ? all : 'since' in share ? since(all, share.since) : part(all, share.fraction)
  const places = new Map<string, number[]>()
  for (const each of chosen) {
    if (!('backup' in each)) continue
    const known = places.get(each.backup)
    if (known) known.push(each.index)
    else places.set(each.backup, [each.index])
  }
  for (const indexes of places.values()) indexes.sort((a, b) => a - b)
  return {
    objects: places,
    spans: chosen.filter((each): each is ShelfSpan => !('backup' in each)),
    bytes: bytesIn(chosen),
    totalBytes,
    neverBytes,
  }
}

const since = (all: readonly (ShelfObject | ShelfSpan)[], moment: string) =>
  all.filter((each) => seenAt(each) < moment)

/** When as much was read as this host can; an empty text for never. */
function seenAt(each: ShelfObject | ShelfSpan): string {
  const sizedAt = 'backup' in each ? '' : (each.sizedAt ?? '')
  const at = each.at ?? ''
  return sizedAt > at ? sizedAt : at
}

function part(all: readonly (ShelfObject | ShelfSpan)[], fraction: number): (ShelfObject | ShelfSpan)[] {
  const wanted = Math.ceil(bytesIn(all) * fraction)
  const isDamaged = (each: ShelfObject | ShelfSpan) => 'backup' in each && each.isDamaged
  const rank = (each: ShelfObject | ShelfSpan) => (isDamaged(each) ? '' : seenAt(each) || '0')
  const ordered = all.toSorted((a, b) => (rank(a) < rank(b) ? -1 : rank(a) > rank(b) ? 1 : 0))
  const taken: (ShelfObject | ShelfSpan)[] = []
  let bytes = 0
  for (const each of ordered) {
    if (bytes >= wanted && !isDamaged(each)) break
    const next = 'backup' in each ? each : beginningOf(each, wanted - bytes)
    taken.push(next)
    bytes += next.bytes
  }
  return taken
}

/** As many segments as some bytes are, one at least. */
function beginningOf(span: ShelfSpan, bytes: number): ShelfSpan {
  const segments = Number(span.last - span.first) + 1
  const each = Math.max(1, span.bytes / segments)
  const taken = Math.min(segments, Math.max(1, Math.ceil(bytes / each)))
  return { ...span, last: span.first + BigInt(taken) - 1n, bytes: Math.round(taken * each) }
}

const bytesIn = (all: readonly { bytes: number }[]) => all.reduce((sum, { bytes }) => sum + bytes, 0)

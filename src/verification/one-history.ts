import { isSealed } from '../catalog/sealed-object.ts'
import type { Span } from '../catalog/segment-spans.ts'
import { statWalFile } from '../catalog/wal-object.ts'
import type { TimelineWal } from '../catalog/wal-ranges.ts'
import { requireOneArchive } from '../copy/copy-wal.ts'
import type { Passage } from '../copy/passage.ts'
import { PgrecallError } from '../errors.ts'
import { parseWalFile, segmentName } from '../postgres/wal-file.ts'
import { storedSpans } from './missing-wal.ts'

/** How many stored segments are looked at on each side. */
const MOST_LOOKED_AT = 16

export interface StoredHistory {
  /** What this repository has of WAL. */
  timelines: readonly TimelineWal[]
  segmentBytes: number
  /** Of what is here, what is not compared. */
  damagedKeys: ReadonlySet<string>
}

/**
 * Two servers that went different ways have WAL of the same names and of the same cluster, and no segment of theirs is alike from
 * where they parted. So of the segments that both repositories have, and that are sound here, the nearest before and the nearest
 * behind what is to be brought must be the same in both. One behind it proves that both are of one server; where nothing is stored
 * behind, one before it has to do; where there is neither, nothing is taken.
 * @returns whether only what lies before could be compared
 * @throws PgrecallError `conflict`
 */
export async function requireOneHistory(
  passage: Passage,
  { timeline, first, last }: Span & { timeline: number },
  { timelines, segmentBytes, damagedKeys }: StoredHistory,
): Promise<{ isEndOpen: boolean }> {
  const spans = storedSpans(timelines, timeline, segmentBytes)
  const isAlike = async (numbers: Iterable<bigint>) => {
    for (const number of numbers) {
      const name = segmentName(timeline, number, segmentBytes)
      const here = await statWalFile(passage.to, passage.cluster, name)
      if (here && !damagedKeys.has(here.key) && (await isCompared(passage, name))) return true
    }
    return false
  }
  const isAlikeBefore = await isAlike(nearestBefore(spans, first))
  const isAlikeBehind = await isAlike(nearestBehind(spans, last))
  if (isAlikeBefore || isAlikeBehind) return { isEndOpen: !isAlikeBehind }
  throw new PgrecallError(
    'conflict',
    `no segment near it could be compared with that in repository "${passage.from.name}", so nothing shows that both are of one server; it was not taken`,
  )
}

/** @returns false where it is not there, or cannot be compared @throws PgrecallError `conflict` where it is another one */
async function isCompared(passage: Passage, name: string): Promise<boolean> {
  const there = await statWalFile(passage.from, passage.cluster, name)
  if (!there) return false
  const { key, bytes } = there
  const form = isSealed(key) ? 'sealed' : 'plain'
  try {
    return await requireOneArchive(passage, { file: parseWalFile(name)!, key, bytes, form })
  } catch (error) {
    if (!(error instanceof PgrecallError) || error.kind !== 'damaged') throw error
    return false
  }
}

function* nearestBefore(spans: readonly Span[], limit: bigint): Generator<bigint> {
  let left = MOST_LOOKED_AT
  for (const { first, last } of spans.toReversed())
    for (let number = last < limit ? last : limit - 1n; number >= first; number--) {
      if (left-- === 0) return
      yield number
    }
}

function* nearestBehind(spans: readonly Span[], limit: bigint): Generator<bigint> {
  let left = MOST_LOOKED_AT
  for (const { first, last } of spans)
    for (let number = first > limit ? first : limit + 1n; number <= last; number++) {
      if (left-- === 0) return
      yield number
    }
}

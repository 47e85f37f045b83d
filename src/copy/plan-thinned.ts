import type { BackupSummary } from '../catalog/backup-record.ts'
import { ownWalOf } from '../catalog/own-wal.ts'
import { isInSpans, type Span } from '../catalog/segment-spans.ts'
import type { ThinnedTimeline } from '../catalog/thinned-wal.ts'
import { isThinned, segmentNumberOf, type TimelineWal } from '../catalog/wal-ranges.ts'
import { numberOf, parseWalFile, timelineName, type WalFile } from '../postgres/wal-file.ts'

export type Timeline = Pick<TimelineWal, 'timeline' | 'history' | 'thinnedBefore'>

interface Holding {
  timelines?: readonly Timeline[]
}

/**
 * Tells of WAL whether the destination wants it: what its retention has let go would go again. Pure.
 * @param backups all that are going to be there, whose own WAL is wanted in any case
 */
export function notThinnedIn(
  { timelines = [] }: Holding,
  backups: readonly BackupSummary[],
  segmentBytes: number,
): (file: WalFile) => boolean {
  const own = ownWalOf(backups, timelines, segmentBytes)
  const byNumber = new Map(timelines.map((entry) => [entry.timeline, entry]))
  return (file) =>
    file.kind === 'history' ||
    !isThinned(byNumber.get(file.timeline), file.name) ||
    isInSpans(numberOf(file, segmentBytes), own.get(file.timeline) ?? [])
}

interface Receiver extends Holding {
  backups: readonly BackupSummary[]
  /** Names of all WAL that is there. */
  held: Iterable<string>
}

/**
 * The timelines of which a backup is brought whose WAL was thinned out in the source, so that it has no more in the destination.
 * That is noted as far as the destination has nothing but what makes backups consistent: from there on, what is missing is
 * lost. Pure.
 */
export function broughtThin(
  { timelines = [] }: Holding,
  copied: readonly BackupSummary[],
  destination: Receiver,
  segmentBytes: number,
): ThinnedTimeline[] {
  const histories = [...timelines, ...(destination.timelines ?? [])]
  const own = ownWalOf([...destination.backups, ...copied], histories, segmentBytes)
  return timelines.flatMap(({ timeline, thinnedBefore }) => {
    const isBrought = (before: string) =>
      copied.some((backup) => backup.timeline === timeline && backup.start.walFile < before)
    // Looked for only then: there may be very many names.
    if (thinnedBefore === undefined || !isBrought(thinnedBefore)) return []
    const beyond = firstBeyond(own.get(timeline) ?? [], timeline, destination, segmentBytes)
    const before = beyond !== undefined && beyond < thinnedBefore ? beyond : thinnedBefore
    return isBrought(before) ? [{ timeline, before }] : []
  })
}

/** The first segment that backups do not need to be consistent, behind what was thinned out there before. */
function firstBeyond(
  own: readonly Span[],
  timeline: number,
  { timelines = [], held }: Receiver,
  segmentBytes: number,
): string | undefined {
  const from = timelines.find((entry) => entry.timeline === timeline)?.thinnedBefore ?? ''
  let first: string | undefined
  for (const name of held) {
    const isEarlier = name >= from && (first === undefined || name < first)
    if (!isEarlier || !name.startsWith(timelineName(timeline))) continue
    if (parseWalFile(name)?.kind !== 'segment') continue
    if (!isInSpans(segmentNumberOf(name, segmentBytes), own)) first = name
  }
  return first
}

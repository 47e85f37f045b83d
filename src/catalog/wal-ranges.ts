import { lsn } from '../postgres/lsn.ts'
import { numberOf, parseWalFile, segmentName, segmentNumber } from '../postgres/wal-file.ts'
import type { BackupSummary } from './backup-record.ts'
import { firstWhere } from './sorted-search.ts'

/** What the archive holds of one timeline. */
export interface TimelineWal {
  timeline: number
  /** Runs of segments without a hole, in order. Between two of them is a gap. */
  ranges: WalRun[]
  /** Whether `<timeline>.history` is stored; the first timeline has none. */
  hasHistory: boolean
  /** The timelines that lead here, oldest first, so that the parent is the last; absent where no history could be read. */
  history?: Ancestor[]
  /** The unfinished last segment of a timeline that ended by a promotion. */
  partial?: string
  /**
   * The segment that `wal-receive` is receiving, where no whole one is as new. It extends the last run only if it directly
   * follows it: else what lies between the two is a gap.
   */
  receiving?: { segment: string; storedBytes: number; storedAt: string }
  /** WAL that was given up and is not stored: what explains a gap. */
  dropped?: DroppedWal[]
  /**
   * Before this segment, retention has let go all but what makes backups consistent: what is missing there is missing on
   * purpose.
   */
  thinnedBefore?: string
}

/** A timeline on the way to another one. */
export interface Ancestor {
  timeline: number
  /** The LSN where the way goes over to the next timeline. */
  switchedAt: string
}

/** Segments `first` to `last`, all stored. */
export interface WalRun {
  first: string
  last: string
  segments: number
  storedBytes: number
  /** When `first`, and when the newest of them was stored, by the store's clock; ISO 8601. */
  firstStoredAt: string
  newestStoredAt: string
}

/** Segments `first` to `last`, given up by `wal-push`; the reason is that of the first. */
export interface DroppedWal {
  first: string
  last: string
  segments: number
  /** When the first and the last of them were given up; ISO 8601. */
  since: string
  until: string
  reason: string
}

/** What is known of one dropped segment. */
export type DroppedNote = Pick<DroppedWal, 'since' | 'until' | 'reason'>

/** Puts the WAL of one timeline together from what is told in the order of the keys. */
export class TimelineBuilder {
  readonly #timeline: number
  readonly #segmentBytes: number
  readonly #ranges: WalRun[] = []
  readonly #dropped: DroppedWal[] = []
  /** The number of the last segment so far. */
  #end: bigint | undefined
  #droppedEnd: bigint | undefined
  #partial: string | undefined
  #receiving: TimelineWal['receiving']

  constructor(timeline: number, segmentBytes: number) {
    this.#timeline = timeline
    this.#segmentBytes = segmentBytes
  }

  /** A run that is known already, or a single segment as a run of one. */
  addRun(run: WalRun): void {
    const number = segmentNumberOf(run.first, this.#segmentBytes)
    const before = this.#ranges.at(-1)
    if (before && this.#end === number - 1n) {
      before.last = run.last
      before.segments += run.segments
      before.storedBytes += run.storedBytes
      if (run.newestStoredAt > before.newestStoredAt) before.newestStoredAt = run.newestStoredAt
    } else this.#ranges.push({ ...run })
    this.#end = segmentNumberOf(run.last, this.#segmentBytes)
    // What stands before a segment in the listing was said of it when it was not there yet.
    if (this.#droppedEnd === number) this.#takeBackNote()
    if (this.#partial?.startsWith(run.first)) this.#partial = undefined
  }

  addPartial(name: string): void {
    this.#partial = name
  }

  addReceiving(segment: string, storedBytes: number, storedAt: string): void {
    this.#receiving = { segment, storedBytes, storedAt }
  }

  addDropped(segment: string, note: DroppedNote): void {
    const number = segmentNumberOf(segment, this.#segmentBytes)
    const before = this.#dropped.at(-1)
    if (before && this.#droppedEnd === number - 1n) {
      before.last = segment
      before.segments++
      if (note.since < before.since) before.since = note.since
      if (note.until > before.until) before.until = note.until
    } else this.#dropped.push({ first: segment, last: segment, segments: 1, ...note })
    this.#droppedEnd = number
  }

  #takeBackNote(): void {
    const last = this.#dropped.at(-1)!
    last.segments--
    if (last.segments === 0) this.#dropped.pop()
    else last.last = segmentName(this.#timeline, this.#droppedEnd! - 1n, this.#segmentBytes)
    this.#droppedEnd = undefined
  }

  /** @param history undefined when none is stored; without ancestors when it cannot be read */
  build(history: { ancestors: Ancestor[] | undefined } | undefined): TimelineWal {
    const isNewest =
      this.#receiving !== undefined &&
      segmentNumberOf(this.#receiving.segment, this.#segmentBytes) > (this.#end ?? -1n)
    return {
      timeline: this.#timeline,
      ranges: this.#ranges,
      hasHistory: history !== undefined,
      ...(history?.ancestors && { history: history.ancestors }),
      ...(this.#partial !== undefined && { partial: this.#partial }),
      ...(isNewest && { receiving: this.#receiving! }),
      ...(this.#dropped.length > 0 && { dropped: this.#dropped }),
    }
  }
}

/** A hole in a timeline: segments `first` to `last` are missing. */
export interface WalGap {
  timeline: number
  first: string
  last: string
  segments: number
  /** What of it was given up, where that is known. */
  dropped?: DroppedWal[]
}

/**
 * The holes of each timeline: between its runs, and between the last one and the segment that is being received. Those that
 * were made on purpose are none.
 */
export function walGaps(timelines: readonly TimelineWal[], segmentBytes: number): WalGap[] {
  const number = (name: string) => segmentNumberOf(name, segmentBytes)
  return timelines.flatMap((entry) => {
    const { timeline, ranges, receiving, dropped = [] } = entry
    const begins = [...ranges.map((run) => run.first), ...(receiving ? [receiving.segment] : [])]
    return ranges.flatMap((run, index) => {
      const next = begins[index + 1]
      const first = number(run.last) + 1n
      const last = next === undefined ? -1n : number(next) - 1n
      if (last < first || isThinned(entry, segmentName(timeline, last, segmentBytes))) return []
      const notes = dropped.filter((note) => number(note.first) <= last && first <= number(note.last))
      return [
        {
          timeline,
          first: segmentName(timeline, first, segmentBytes),
          last: segmentName(timeline, last, segmentBytes),
          segments: Number(last - first) + 1,
          ...(notes.length > 0 && { dropped: notes }),
        },
      ]
    })
  })
}

/** Whether a segment of a timeline, where it is missing, is missing on purpose. */
export function isThinned(entry: Pick<TimelineWal, 'thinnedBefore'> | undefined, segment: string): boolean {
  return entry?.thinnedBefore !== undefined && segment < entry.thinnedBefore
}

/** Since when something is stored behind a gap; ISO 8601. */
export function storedBehind({ ranges, receiving }: TimelineWal, gap: Pick<WalGap, 'last'>): string {
  return ranges.find(({ first }) => first > gap.last)?.firstStoredAt ?? receiving!.storedAt
}

/** WAL that was given up after all that is stored of a timeline, so that the archive does not go on there. */
export function droppedAtEnd({ ranges, receiving, dropped = [] }: TimelineWal): DroppedWal[] {
  const last = receiving?.segment ?? ranges.at(-1)?.last ?? ''
  return dropped.filter((note) => note.first > last)
}

/**
 * WAL that was given up and that a recovery from a backup would need, oldest first.
 * @param backup nothing to get all of it
 */
export function droppedSince(
  timelines: readonly TimelineWal[],
  backup: Pick<BackupSummary, 'timeline' | 'start'> | undefined,
): DroppedWal[] {
  // On a later timeline the part of the name behind it goes on to grow.
  const start = backup?.start.walFile.slice(8) ?? ''
  return timelines
    .filter(({ timeline }) => timeline >= (backup?.timeline ?? 0))
    .flatMap(({ dropped = [] }) => dropped)
    .filter(({ last }) => last.slice(8) >= start)
    .toSorted((a, b) => (a.since < b.since ? -1 : 1))
}

/** The ids of the backups whose recovery begins in a run. */
export function backupsIn(run: WalRun, backups: readonly BackupSummary[]): string[] {
  return backups
    .filter(({ start }) => run.first <= start.walFile && start.walFile <= run.last)
    .map(({ id }) => id)
}

/**
 * How far the archive reaches without a hole from one segment on.
 * @returns the number of the last segment of the run that holds `from`, or undefined when `from` is not stored
 */
export function reachFrom(
  wal: TimelineWal | undefined,
  from: bigint,
  segmentBytes: number,
): bigint | undefined {
  if (!wal) return undefined
  // Names of one timeline are in the order of their numbers.
  const name = segmentName(wal.timeline, from, segmentBytes)
  const run = wal.ranges[firstWhere(wal.ranges, ({ last }) => last >= name)]
  return run && run.first <= name ? segmentNumberOf(run.last, segmentBytes) : undefined
}

/** Whether there is WAL of a timeline, and no history that can be read: then no recovery leads to it. */
export function lacksHistory({ timeline, ranges, receiving, history }: TimelineWal): boolean {
  return timeline > 1 && (ranges.length > 0 || receiving !== undefined) && history === undefined
}

/**
 * Whether the whole segments from a backup's start to its stop are archived. The last of them may be there as the next
 * timeline's first one, where a promotion came right after the backup.
 */
export function hasOwnWal(
  { timeline, start, stop }: Pick<BackupSummary, 'timeline' | 'start' | 'stop'>,
  wal: readonly TimelineWal[],
  segmentBytes: number,
): boolean {
  const own = wal.find((entry) => entry.timeline === timeline)
  const from = segmentNumberOf(start.walFile, segmentBytes)
  const reached = reachFrom(own, from, segmentBytes)
  if (reached !== undefined && reached >= segmentNumberOf(stop.walFile, segmentBytes))
    return !lacksHistory(own!)
  const missing = reached === undefined ? from : reached + 1n
  return wal.some((later) => {
    const left = later.history?.find((ancestor) => ancestor.timeline === timeline)
    if (!left || lsn(left.switchedAt) < lsn(stop.lsn)) return false
    const holdsSwitch = segmentNumber(lsn(left.switchedAt), segmentBytes) === missing
    return holdsSwitch && reachFrom(later, missing, segmentBytes) !== undefined
  })
}

/** The number of a segment by its name. */
export function segmentNumberOf(name: string, segmentBytes: number): bigint {
  const file = parseWalFile(name)
  if (file?.kind !== 'segment') throw new TypeError(`"${name}" is not a segment`)
  return numberOf(file, segmentBytes)
}

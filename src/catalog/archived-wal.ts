import { SEAL_SUFFIX } from '../archive/age.ts'
import { historyName, segmentName, timelineName } from '../postgres/wal-file.ts'
import { sideBySide } from '../side-by-side.ts'
import { type ObjectFacts, readObject, type Storage } from '../storage/storage.ts'
import { type Part, partInTurn } from './in-turn.ts'
import { type WalForm, walKey, walPrefix } from './layout.ts'
import { readStoredHistory } from './stored-history.ts'
import { walObjectOf } from './wal-object.ts'
import {
  type DroppedNote,
  segmentNumberOf,
  TimelineBuilder,
  type TimelineWal,
  type WalRun,
} from './wal-ranges.ts'

/** How many small requests are under way at once: a store that is far away answers each of them late. */
const AT_ONCE = 24
/** So many known segments are listed by each look, in turn: a few pages of a store's listing. */
const LISTED_IN_TURN = 4096
/** So much that came between two runs is kept in memory. */
const MOST_BETWEEN = 1000
/** `TTTTTTTTLLLLLLLLSSSSSSSS` */
const SEGMENT_NAME_LENGTH = 24

export interface Archive {
  storage: Storage
  cluster: string
  segmentBytes: number
}

/** What `catalog.json` says of the archive. */
export interface BelievedWal {
  wal: readonly TimelineWal[]
  /** How many looks there were before. */
  turn: number
}

/**
 * What the archive holds, by timeline.
 * Of each known run only the two ends are looked at: whether they are still there. Listed is what lies before, between
 * and behind the runs, and in turn some thousand of the known segments, by which it is noticed what somebody took out of the
 * middle. A run of which anything is gone is listed anew, and what became whole is one run again.
 * @param before what was found before; nothing to list everything
 */
export async function archivedWal(archive: Archive, before?: BelievedWal): Promise<TimelineWal[]> {
  const { storage, cluster } = archive
  const listedInTurn = before ? partsOfRuns(before) : new Map<WalRun, Part>()
  const found: TimelineWal[] = []
  for await (const folder of storage.folders(walPrefix(cluster))) {
    const timeline = Number.parseInt(folder, 16)
    if (timelineName(timeline) !== folder) continue
    const known = before?.wal.find((entry) => entry.timeline === timeline)
    const pieces = known ? piecesOf(archive, known, listedInTurn) : storage.list(prefixOf(cluster, timeline))
    const wal = await timelineOf(archive, known ?? { timeline, ranges: [], hasHistory: false }, pieces)
    if (isAnything(wal)) found.push(wal)
  }
  return found.sort((a, b) => a.timeline - b.timeline)
}

/** Which segments of which runs it is the turn of, by their places in the run. */
function partsOfRuns({ wal, turn }: BelievedWal): Map<WalRun, Part> {
  const runs = wal.flatMap(({ ranges }) => ranges)
  const count = runs.reduce((sum, { segments }) => sum + segments, 0)
  const part = partInTurn(count, LISTED_IN_TURN, turn)
  const parts = new Map<WalRun, Part>()
  let place = 0
  for (const run of runs) {
    const from = Math.max(part.from - place, 0)
    const to = Math.min(part.to - place, run.segments)
    if (from < to) parts.set(run, { from, to })
    place += run.segments
  }
  return parts
}

const prefixOf = (cluster: string, timeline: number) => `${walPrefix(cluster)}${timelineName(timeline)}/`

const isAnything = ({ ranges, hasHistory, partial, receiving, dropped }: TimelineWal) =>
  ranges.length > 0 || hasHistory || [partial, receiving, dropped].some((part) => part !== undefined)

async function timelineOf(
  archive: Archive,
  known: TimelineWal,
  pieces: AsyncIterable<ObjectFacts | WalRun>,
): Promise<TimelineWal> {
  const { storage, cluster, segmentBytes } = archive
  const builder = new TimelineBuilder(known.timeline, segmentBytes)
  let last: string | undefined
  for await (const piece of pieces) {
    if ('first' in piece) {
      builder.addRun(piece)
      continue
    }
    const file = walObjectOf(cluster, piece.key)
    const storedAt = piece.modified.toISOString()
    if (file?.kind === 'segment') {
      // Stored in both forms, it is one segment all the same.
      if (file.name !== last) builder.addRun(runOfOne(file.name, piece.bytes, storedAt))
      last = file.name
    } else if (file?.kind === 'partial') builder.addPartial(file.name)
    else if (file?.kind === 'receiving') builder.addReceiving(file.name, piece.bytes, storedAt)
    else if (file?.kind === 'dropped' && isSegment(file.name))
      builder.addDropped(file.name, knownNote(known, file.name) ?? (await readNote(storage, piece)))
  }
  return builder.build(await historyOf(archive, known))
}

const isSegment = (name: string) => name.length === SEGMENT_NAME_LENGTH

function runOfOne(name: string, storedBytes: number, storedAt: string): WalRun {
  return {
    first: name,
    last: name,
    segments: 1,
    storedBytes,
    firstStoredAt: storedAt,
    newestStoredAt: storedAt,
  }
}

/** The known runs that are still there, and the objects around them, in the order of the keys. */
async function* piecesOf(
  archive: Archive,
  { timeline, ranges }: TimelineWal,
  listedInTurn: ReadonlyMap<WalRun, Part>,
): AsyncIterable<ObjectFacts | WalRun> {
  const { storage, cluster } = archive
  const prefix = prefixOf(cluster, timeline)
  const ends = ranges.map(({ last }) => walKey(cluster, last, 'sealed'))
  const intact = await sideBySide(ranges.entries(), AT_ONCE, async ([index, run]) => {
    const part = listedInTurn.get(run)
    const found = await intactRun(archive, prefix, run, ends[index - 1])
    return found && (!part || (await isWhole(archive, timeline, run, part))) ? found : undefined
  })
  for (const [index, pieces] of intact.entries()) {
    if (pieces) yield* pieces
    else
      for await (const object of storage.list(prefix, behind(ends[index - 1]))) {
        if (object.key > ends[index]!) break
        yield object
      }
  }
  yield* storage.list(prefix, behind(ends.at(-1)))
}

const behind = (key: string | undefined) => (key === undefined ? {} : { startAfter: key })

/**
 * A known run, as far as its ends tell, and the objects before it.
 * @param after the end of the run before it
 * @returns undefined where an end is gone, or very much came before it
 */
async function intactRun(
  { storage, cluster }: Archive,
  prefix: string,
  run: WalRun,
  after: string | undefined,
): Promise<(ObjectFacts | WalRun)[] | undefined> {
  const first = walKey(cluster, run.first)
  const folder = first.slice(0, first.lastIndexOf('/') + 1)
  // Most gaps lie in one folder, and where folders are read, a small one costs less.
  const near = after?.startsWith(folder) ? folder : prefix
  const before: ObjectFacts[] = []
  for await (const object of storage.list(near, behind(after))) {
    const file = walObjectOf(cluster, object.key)
    if (file?.kind === 'segment' && file.name === run.first) {
      const isIntact = await isThere(storage, cluster, run.last, formOf(object.key))
      return isIntact ? [...before, { ...run, firstStoredAt: object.modified.toISOString() }] : undefined
    }
    if (object.key > first || before.length === MOST_BETWEEN) return undefined
    before.push(object)
  }
  return undefined
}

/** Whether all segments of a part of a run are there; the run's first one is. */
async function isWhole(
  { storage, cluster, segmentBytes }: Archive,
  timeline: number,
  run: WalRun,
  part: Part,
): Promise<boolean> {
  const from = Math.max(part.from, 1)
  const begin = segmentNumberOf(run.first, segmentBytes)
  const keyOf = (place: number) =>
    walKey(cluster, segmentName(timeline, begin + BigInt(place), segmentBytes), 'sealed')
  const end = keyOf(part.to - 1)
  const names = new Set<string>()
  for await (const { key } of storage.list(prefixOf(cluster, timeline), behind(keyOf(from - 1)))) {
    if (key > end) break
    const file = walObjectOf(cluster, key)
    if (file?.kind === 'segment') names.add(file.name)
  }
  return names.size === part.to - from
}

const formOf = (key: string): WalForm => (key.endsWith(SEAL_SUFFIX) ? 'sealed' : 'plain')

/** In either form. @param likely where to look first */
async function isThere(storage: Storage, cluster: string, name: string, likely: WalForm): Promise<boolean> {
  const forms: WalForm[] = likely === 'plain' ? ['plain', 'sealed'] : ['sealed', 'plain']
  for (const form of forms) if (await storage.stat(walKey(cluster, name, form))) return true
  return false
}

/** A history never changes, so it is read once. */
async function historyOf({ storage, cluster }: Archive, { timeline, history }: TimelineWal) {
  if (timeline === 1) return undefined
  if (!history) return readStoredHistory(storage, cluster, timeline)
  const isStored = await isThere(storage, cluster, historyName(timeline), 'plain')
  return isStored ? { ancestors: history } : undefined
}

function knownNote({ dropped = [] }: TimelineWal, segment: string): DroppedNote | undefined {
  const note = dropped.find(({ first, last }) => first <= segment && segment <= last)
  return note && { since: note.since, until: note.until, reason: note.reason }
}

/** A note that cannot be read still says that the segment was given up, and its age says when. */
async function readNote(storage: Storage, { key, modified }: ObjectFacts): Promise<DroppedNote> {
  const bytes = await readObject(storage, key)
  const text = bytes?.toString('utf8') ?? ''
  const at = modified.toISOString()
  try {
    const { droppedAt, reason } = JSON.parse(text) as Record<string, unknown>
    const since = new Date(String(droppedAt)).toISOString()
    return { since, until: since, reason: String(reason) }
  } catch {
    return { since: at, until: at, reason: 'its note cannot be read' }
  }
}

import { SEAL_SUFFIX } from '../archive/age.ts'
import { historyName, timelineName } from '../postgres/wal-file.ts'
import { type ObjectFacts, readObject, type Storage } from '../storage/storage.ts'
import { type WalForm, walKey, walPrefix } from './layout.ts'
import { readStoredHistory } from './stored-history.ts'
import { walObjectOf } from './wal-object.ts'
import { type DroppedNote, TimelineBuilder, type TimelineWal, type WalRun } from './wal-ranges.ts'

/** `TTTTTTTTLLLLLLLLSSSSSSSS` */
const SEGMENT_NAME_LENGTH = 24

interface Archive {
  storage: Storage
  cluster: string
  segmentBytes: number
}

/**
 * What the archive holds, by timeline.
 * Of each known run only the two ends are looked at: whether they are still there. Listed is what lies before, between
 * and behind the runs. A run of which an end is gone is listed anew, and what became whole is one run again; only a
 * segment that somebody took out of the middle is not noticed.
 * @param known what was found before; nothing to list everything
 */
export async function archivedWal(archive: Archive, known: readonly TimelineWal[]): Promise<TimelineWal[]> {
  const { storage, cluster } = archive
  const found: TimelineWal[] = []
  for await (const folder of storage.folders(walPrefix(cluster))) {
    const timeline = Number.parseInt(folder, 16)
    if (timelineName(timeline) !== folder) continue
    const before = known.find((entry) => entry.timeline === timeline)
    const wal = await timelineOf(archive, before ?? { timeline, ranges: [], hasHistory: false })
    if (isAnything(wal)) found.push(wal)
  }
  return found.sort((a, b) => a.timeline - b.timeline)
}

const isAnything = ({ ranges, hasHistory, partial, receiving, dropped }: TimelineWal) =>
  ranges.length > 0 || hasHistory || [partial, receiving, dropped].some((part) => part !== undefined)

async function timelineOf(archive: Archive, known: TimelineWal): Promise<TimelineWal> {
  const { storage, cluster, segmentBytes } = archive
  const builder = new TimelineBuilder(known.timeline, segmentBytes)
  let last: string | undefined
  for await (const piece of piecesOf(archive, known)) {
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
  { storage, cluster }: Archive,
  known: TimelineWal,
): AsyncIterable<ObjectFacts | WalRun> {
  const prefix = `${walPrefix(cluster)}${timelineName(known.timeline)}/`
  let after: string | undefined
  for (const run of known.ranges) {
    const end = walKey(cluster, run.last, 'sealed')
    for await (const object of storage.list(prefix, after === undefined ? {} : { startAfter: after })) {
      if (object.key > end) break
      const file = walObjectOf(cluster, object.key)
      const isFirst = file?.kind === 'segment' && file.name === run.first
      if (isFirst && (await isThere(storage, cluster, run.last, formOf(object.key)))) {
        yield { ...run, firstStoredAt: object.modified.toISOString() }
        break
      }
      yield object
    }
    after = end
  }
  yield* storage.list(prefix, after === undefined ? {} : { startAfter: after })
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

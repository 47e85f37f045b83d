import type { BackupSummary } from '../catalog/backup-record.ts'
import { type Catalog, loadCatalog } from '../catalog/catalog.ts'
import { backupPrefix, type WalForm } from '../catalog/layout.ts'
import { spanOf } from '../catalog/parts-of-runs.ts'
import type { Repository } from '../catalog/repository.ts'
import { isInSpans, mergedSpans } from '../catalog/segment-spans.ts'
import { statWalFile, walForms } from '../catalog/wal-object.ts'
import { lacksHistory, type TimelineWal } from '../catalog/wal-ranges.ts'
import { PgrecallError } from '../errors.ts'
import type { Events } from '../events.ts'
import { historyName, parseWalFile } from '../postgres/wal-file.ts'
import { sideBySide } from '../side-by-side.ts'
import { type Chosen, chooseBackups } from './choose-backups.ts'
import type { AnyRecord } from './damage.ts'
import { KnownVerifications } from './known.ts'
import type { KnownSpan } from './known-spans.ts'
import { listWal, type OtherWal } from './listed-wal.ts'
import { type MissingWal, missingWal, storedSpans } from './missing-wal.ts'
import { segmentAt } from './places.ts'
import type { ShelfObject, ShelfSpan } from './plan-reading.ts'
import { readAnyRecord } from './twin.ts'
import { ownSegments } from './verify-wal.ts'

/** How many records are read at once. */
const AT_ONCE = 8

export interface StockRequest {
  cluster: string
  ids: readonly string[]
  isLoading: boolean
  decode: boolean
}

/** What there is to be verified. */
export interface Stock {
  /** With all WAL as it was listed now. */
  catalog: Catalog
  chosen: Chosen[]
  /** Whether no backup was named, so that everything is looked at. */
  isAll: boolean
  /** Whether what is read is taken apart, too. */
  decode: boolean
  known: KnownVerifications
  objects: ShelfObject[]
  spans: ShelfSpan[]
  /** How this repository stores WAL now. */
  walForm: WalForm
  /** What lies beside the segments. */
  others: OtherWal[]
  missing: MissingWal[]
  /** Timelines whose history is not there. */
  missingHistories: string[]
  /** Backups that were whole, and have no record any more. */
  lostRecords: string[]
}

/**
 * Looks at what is stored: records, and a listing of the WAL. Reads no object of a backup.
 * @throws PgrecallError `absent` for an id that is not there, `usage` for a physical backup that is to be loaded, `repository`
 */
export async function takeStock(
  repository: Repository,
  request: StockRequest,
  context: { events: Events; signal: AbortSignal; now: () => Date },
): Promise<Stock> {
  const { storage } = repository
  const { cluster, ids, isLoading } = request
  const isAll = ids.length === 0
  const loaded = await loadCatalog(storage, cluster, { fresh: true })
  const chosen = chooseBackups(loaded, repository.name, ids, isLoading)
  const listed = isAll
    ? await listWal(repository, loaded, context.signal)
    : { timelines: loaded.wal, others: await historiesOf(repository, cluster, chosen) }
  const catalog = { ...loaded, wal: listed.timelines }
  const known = await KnownVerifications.read(storage, cluster, catalog.walSegmentBytes, context)
  const backups = chosen.flatMap(({ summary }) => (summary && summary.method !== 'logical' ? [summary] : []))
  const timelines = catalog.wal.map(({ timeline }) => timeline)
  const missing = missingWal({
    timelines: catalog.wal,
    segmentBytes: catalog.walSegmentBytes,
    backups,
    isAll,
    known: timelines.flatMap((timeline) => known.spansOf(timeline)),
  })
  unlearnDamagedWal(catalog, known, request.decode)
  return {
    catalog,
    chosen,
    isAll,
    decode: request.decode,
    known,
    objects: await objectsOnShelf(repository, cluster, chosen, known, request.decode, context.signal),
    spans: spansOnShelf(catalog, backups, isAll, request.decode, known, await hasKey(repository)),
    walForm: walForms(repository)[0],
    others: listed.others,
    missing,
    missingHistories: missingHistories(catalog.wal, backups, isAll),
    lostRecords: isAll ? lostRecords(catalog) : [],
  }
}

/** Of backups that are named, the history that leads to each. */
async function historiesOf(
  repository: Repository,
  cluster: string,
  chosen: readonly Chosen[],
): Promise<OtherWal[]> {
  const timelines = new Set(
    chosen.flatMap(({ summary }) =>
      summary && summary.method !== 'logical' && summary.timeline > 1 ? [summary.timeline] : [],
    ),
  )
  const found = await sideBySide(timelines, AT_ONCE, async (timeline) => {
    const file = parseWalFile(historyName(timeline))
    const facts = await statWalFile(repository, cluster, historyName(timeline))
    return facts && file?.kind === 'history' ? [{ file, key: facts.key, bytes: facts.bytes }] : []
  })
  return found.flat()
}

function missingHistories(
  wal: readonly TimelineWal[],
  backups: readonly BackupSummary[],
  isAll: boolean,
): string[] {
  const lacking = wal
    .filter((entry) => lacksHistory(entry) && !entry.hasHistory)
    .map(({ timeline }) => timeline)
  const own = new Set(backups.map(({ timeline }) => timeline))
  return lacking.filter((timeline) => isAll || own.has(timeline)).map(historyName)
}

async function objectsOnShelf(
  repository: Repository,
  cluster: string,
  chosen: readonly Chosen[],
  known: KnownVerifications,
  decode: boolean,
  signal: AbortSignal,
): Promise<ShelfObject[]> {
  const damaged = known.damagedKeys(decode)
  const shelves = await sideBySide(chosen, AT_ONCE, async ({ id, summary }) => {
    signal.throwIfAborted()
    const record = summary && (await readUnlessDamaged(repository, cluster, id))
    return (record?.objects ?? []).map(({ name, bytes }, index): ShelfObject => {
      const isDamaged = damaged.has(backupPrefix(cluster, id) + name)
      const at = isDamaged ? undefined : known.momentOf(record!, index)
      return { backup: id, index, bytes, at, isDamaged }
    })
  })
  return shelves.flat()
}

/** What is damaged is told when it is its turn. */
async function readUnlessDamaged(
  repository: Repository,
  cluster: string,
  id: string,
): Promise<AnyRecord | undefined> {
  return readAnyRecord(repository, cluster, id).catch((error) => {
    if (error instanceof PgrecallError && error.kind === 'damaged') return undefined
    throw error
  })
}

/** A segment that was damaged or missing, and is there: what was known of it before is of no use. */
function unlearnDamagedWal(
  { cluster, wal, walSegmentBytes }: Catalog,
  known: KnownVerifications,
  decode: boolean,
): void {
  for (const key of known.damagedKeys(decode)) {
    const segment = segmentAt(cluster, key, walSegmentBytes)
    const stored = segment && storedSpans(wal, segment.timeline, walSegmentBytes)
    if (!segment || !isInSpans(segment.number, stored!)) continue
    known.noteWal({ timeline: segment.timeline, first: segment.number, last: segment.number, at: undefined })
  }
}

/** All stored segments; of backups that are named, those that make them consistent, or, to decode, all from there on. */
function spansOnShelf(
  { wal, walSegmentBytes }: Catalog,
  backups: readonly BackupSummary[],
  isAll: boolean,
  decode: boolean,
  known: KnownVerifications,
  isReadable: boolean,
): ShelfSpan[] {
  const wanted = backups.flatMap((backup) => {
    const own = ownSegments(backup)
    return own ? [{ timeline: backup.timeline, ...own }] : []
  })
  const spans: ShelfSpan[] = []
  for (const { timeline, ranges } of wal) {
    for (const run of ranges) {
      const stored = spanOf(run, walSegmentBytes)
      const each = run.storedBytes / run.segments
      const read = known.spansIn(timeline, stored.first, stored.last)
      for (const span of isReadable ? read : read.flatMap((part) => withSizes(part, known))) {
        for (const part of isAll ? [span] : partsOf(span, wanted, decode)) {
          const bytes = Math.round(each * (Number(part.last - part.first) + 1))
          spans.push({ ...span, ...part, bytes })
        }
      }
    }
  }
  return spans
}

/** Where WAL cannot be read, it has its turn by when its sizes were compared. */
function withSizes(span: KnownSpan, known: KnownVerifications): Omit<ShelfSpan, 'bytes'>[] {
  return known
    .sizesIn(span.timeline, span.first, span.last)
    .map(({ first, last, at }) => ({ ...span, first, last, sizedAt: at }))
}

async function hasKey({ keys }: Repository): Promise<boolean> {
  try {
    await keys.opener.identities()
    return true
  } catch (error) {
    if (error instanceof PgrecallError && error.kind === 'key') return false
    throw error
  }
}

function partsOf(
  span: { timeline: number; first: bigint; last: bigint },
  wanted: readonly { timeline: number; first: bigint; last: bigint }[],
  decode: boolean,
): { first: bigint; last: bigint }[] {
  if (decode) {
    const from = wanted.filter(({ timeline }) => timeline <= span.timeline).map(({ first }) => first)
    const least = from.reduce((a, b) => (b < a ? b : a), span.last + 1n)
    const first = span.first > least ? span.first : least
    return first > span.last ? [] : [{ first, last: span.last }]
  }
  const parts = wanted
    .filter(
      ({ timeline, first, last }) => timeline === span.timeline && first <= span.last && span.first <= last,
    )
    .map(({ first, last }) => ({
      first: first > span.first ? first : span.first,
      last: last < span.last ? last : span.last,
    }))
  return mergedSpans(parts)
}

/** Backups that have lost their record, and those that others build upon and of which nothing is left. */
function lostRecords({ backups, logical, damaged, lost = [] }: Catalog): string[] {
  const present = new Set([...backups, ...logical, ...damaged].map(({ id }) => id))
  const parents = backups.flatMap(({ parent }) => (parent && !present.has(parent.id) ? [parent.id] : []))
  return [...new Set([...lost, ...parents])].toSorted()
}

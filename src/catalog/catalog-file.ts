import { z } from 'zod'
import { parseLsn } from '../postgres/lsn.ts'
import { readObject, type Storage } from '../storage/storage.ts'
import { type BackupSummary, BackupSummarySchema } from './backup-record.ts'
import { FORMAT } from './identity.ts'
import { catalogKey, isBackupId } from './layout.ts'
import { type LogicalSummary, LogicalSummarySchema } from './logical-record.ts'
import { decodeSummed, encodeSummed } from './record-file.ts'
import { firstWhere } from './sorted-search.ts'
import { segmentNumberOf, type TimelineWal, type WalRun, walGaps } from './wal-ranges.ts'

/**
 * The catalog of one cluster in one repository: its backups of both kinds, oldest first, and the WAL that is archived.
 * `catalog.json` keeps it so that few objects need to be read; it is derived, and checked against what is stored
 * each time it is used.
 */
export interface Catalog {
  cluster: string
  systemIdentifier: string | undefined
  walSegmentBytes: number
  /** The physical ones. */
  backups: BackupSummary[]
  logical: LogicalSummary[]
  wal: TimelineWal[]
  /** How many looks have believed a part of this since all of it was looked at; absent where all of it was. */
  looks?: number
  /** Backups whose record cannot be believed, with the reason. */
  damaged: { id: string; reason: string }[]
  /** Ids of backups that were there and whose record is gone, while the folder is not; absent where there is none. */
  lost?: string[] | undefined
}

/** Some hundred thousand backups. */
const LARGEST_BYTES = 512 * 1024 * 1024

const count = z.number().int().nonnegative()
const moment = z.iso.datetime()
const segment = z.string().regex(/^[0-9A-F]{24}$/)
const stretch = { first: segment, last: segment, segments: count.min(1) }

const TimelineSchema = z.object({
  timeline: count.min(1),
  ranges: z.array(
    z.object({ ...stretch, storedBytes: count, firstStoredAt: moment, newestStoredAt: moment }),
  ),
  hasHistory: z.boolean(),
  history: z
    .array(
      z.object({ timeline: count, switchedAt: z.string().refine((text) => parseLsn(text) !== undefined) }),
    )
    .exactOptional(),
  partial: z.string().exactOptional(),
  receiving: z.object({ segment, storedBytes: count, storedAt: moment }).exactOptional(),
  dropped: z
    .array(z.object({ ...stretch, since: moment, until: moment, reason: z.string() }))
    .exactOptional(),
})

/** To be raised whenever the schema of a backup changes: a test holds the two together. */
export const CATALOG_SHAPE = 1

const around = {
  format: z.literal(FORMAT),
  cluster: z.string(),
  systemIdentifier: z.string().optional(),
  walSegmentBytes: count.min(1024 * 1024),
  looks: count,
  wal: z.array(TimelineSchema),
  lost: z.array(z.string().refine(isBackupId, 'not a backup id')).exactOptional(),
}

/** A catalog that another version may have written, as old as it may be. */
export const StoredCatalogSchema = z
  .object({ ...around, backups: z.array(BackupSummarySchema), logical: z.array(LogicalSummarySchema) })
  .refine(isEachInOrder)

/**
 * One that says the same of each backup as this program does. Its sum tells that it is as it was written, and was written from
 * records that had been looked into: of ten thousand backups, a second look would take longer than all else.
 */
const OwnCatalogSchema = z
  .object({
    ...around,
    shape: z.literal(CATALOG_SHAPE),
    backups: z.custom<BackupSummary[]>(Array.isArray),
    logical: z.custom<LogicalSummary[]>(Array.isArray),
  })
  .refine(isEachInOrder)

export type StoredCatalog = z.infer<typeof StoredCatalogSchema>

function isEachInOrder({
  wal,
  walSegmentBytes,
}: {
  wal: z.infer<typeof TimelineSchema>[]
  walSegmentBytes: number
}): boolean {
  return wal.every((entry) => isInOrder(entry, walSegmentBytes))
}

/** Runs that do not lie one behind the other are not what was found once. */
function isInOrder({ ranges }: z.infer<typeof TimelineSchema>, segmentBytes: number): boolean {
  let end = -2n
  return ranges.every(({ first, last, segments }) => {
    const begin = segmentNumberOf(first, segmentBytes)
    const isBehind = begin > end + 1n
    end = segmentNumberOf(last, segmentBytes)
    return isBehind && end - begin + 1n === BigInt(segments)
  })
}

/**
 * `catalog.json`, or undefined where there is none that can be believed, as of one that is another cluster's.
 * @param systemIdentifier the cluster's own, where that is known
 */
export async function readStoredCatalog(
  storage: Storage,
  cluster: string,
  systemIdentifier: string | undefined,
): Promise<StoredCatalog | undefined> {
  const bytes = await readObject(storage, catalogKey(cluster), { limit: LARGEST_BYTES })
  if (!bytes) return undefined
  try {
    const found = decodeSummed(bytes)
    const own = OwnCatalogSchema.safeParse(found)
    const stored = own.success ? own.data : StoredCatalogSchema.parse(found)
    const isOwn = stored.cluster === cluster && stored.systemIdentifier === systemIdentifier
    return isOwn ? stored : undefined
  } catch {
    return undefined
  }
}

/** The bytes of `catalog.json`: beside what is read again, what helps a person and a program that look into it. */
export function encodeCatalog(catalog: Catalog, now: Date): Buffer {
  const { damaged: _damaged, wal, looks = 0, ...rest } = catalog
  const stored = {
    format: FORMAT,
    shape: CATALOG_SHAPE,
    updatedAt: now.toISOString(),
    looks,
    ...rest,
    wal: walWithBackups(catalog),
    gaps: walGaps(wal, catalog.walSegmentBytes),
  }
  return encodeSummed(inLines(stored))
}

/** JSON with a line for each element of a list: a backup is found by its line, and thousands are read in less time. */
function inLines(value: object): string {
  const told = Object.entries(value).filter(([, entry]) => entry !== undefined)
  const entries = told.map(([key, entry]) => {
    const isList = Array.isArray(entry) && entry.length > 0
    const text = isList
      ? `[\n  ${entry.map((element) => JSON.stringify(element)).join(',\n  ')}\n ]`
      : JSON.stringify(entry)
    return ` ${JSON.stringify(key)}: ${text}`
  })
  return `{\n${entries.join(',\n')}\n}`
}

/** The WAL, with the ids of the backups whose recovery begins in each run. */
export function walWithBackups({ wal, backups }: Catalog) {
  const ordered = backups.toSorted((a, b) => compareNames(a.start.walFile, b.start.walFile))
  return wal.map((entry) => ({
    ...entry,
    ranges: entry.ranges.map((run) => ({ ...run, backups: backupsIn(run, ordered) })),
  }))
}

/** @param ordered by the segments that they begin with */
function backupsIn({ first, last }: WalRun, ordered: readonly BackupSummary[]): string[] {
  const from = firstWhere(ordered, ({ start }) => start.walFile >= first)
  const to = firstWhere(ordered, ({ start }) => start.walFile > last)
  return ordered.slice(from, to).map(({ id }) => id)
}

const compareNames = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

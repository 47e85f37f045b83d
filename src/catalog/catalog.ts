import { PgrecallError } from '../errors.ts'
import { sideBySide } from '../side-by-side.ts'
import type { Storage } from '../storage/storage.ts'
import { archivedWal } from './archived-wal.ts'
import { type BackupSummary, readBackupRecord, summaryOf } from './backup-record.ts'
import { type Catalog, encodeCatalog, readStoredCatalog, type StoredCatalog } from './catalog-file.ts'
import { readIdentity, requireRepository } from './identity.ts'
import {
  backupRecordKey,
  backupsPrefix,
  catalogKey,
  isBackupId,
  isLogicalId,
  isPhysicalId,
} from './layout.ts'
import { type LogicalSummary, logicalSummaryOf, readLogicalRecord } from './logical-record.ts'
import { readThinnedWal, withThinned } from './thinned-wal.ts'
import type { TimelineWal } from './wal-ranges.ts'

export type { Catalog } from './catalog-file.ts'

const DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024
/** What was listed so long ago is listed again: what somebody took out of the middle of a run is noticed within a day. */
const BELIEVED_MS = 24 * 60 * 60 * 1000
/** So many of the newest backups are looked at, whatever is believed of the others. */
const LOOKED_AT = 16

/** How many small requests are under way at once: a store that is far away answers each of them late. */
const AT_ONCE = 24

export interface LoadOptions {
  /** Reads every backup's record: what `catalog.json` says of them is not believed. */
  fresh?: boolean
  /**
   * The moment of the look; then WAL that `catalog.json` knows is not listed again unless that is a day old. Without it
   * all WAL is listed: so it must be for what decides what can be recovered, or what may be removed.
   */
  believingWalAt?: Date
}

/**
 * What is stored now. What `catalog.json` already knows of backups is not read again, but none is believed that the
 * listing does not show: an outdated, damaged or missing catalog only makes this slower.
 */
export async function loadCatalog(
  storage: Storage,
  cluster: string,
  { fresh = false, believingWalAt }: LoadOptions = {},
): Promise<Catalog> {
  const identity = await readIdentity(storage, cluster)
  const isOfUse = !fresh || believingWalAt !== undefined
  const stored = isOfUse ? await readStoredCatalog(storage, cluster, identity?.systemIdentifier) : undefined
  const known = fresh ? NO_BACKUPS : (stored ?? NO_BACKUPS)
  const { backups, logical, damaged } = await storedBackups(
    storage,
    cluster,
    known,
    believingWalAt !== undefined,
  )
  const segmentBytes = identity?.walSegmentBytes ?? backups.at(-1)?.walSegmentBytes ?? DEFAULT_SEGMENT_BYTES
  const believed = believingWalAt && stored && believableWal(stored, segmentBytes, believingWalAt)
  const found = await archivedWal({ storage, cluster, segmentBytes }, believed ?? [])
  const wal = withThinned(found, await readThinnedWal(storage, cluster))
  // A folder that is not mounted must not look like an empty repository.
  const isEmpty = backups.length + logical.length + damaged.length + wal.length === 0
  if (!identity && isEmpty) await requireRepository(storage)
  return {
    cluster,
    systemIdentifier: identity?.systemIdentifier,
    walSegmentBytes: segmentBytes,
    ...(believed && { walListedAt: stored!.walListedAt }),
    backups,
    logical,
    wal,
    damaged,
  }
}

/** Backups of both kinds. */
export type Backups = Pick<Catalog, 'backups' | 'logical'>

const NO_BACKUPS: Backups = { backups: [], logical: [] }

/**
 * The backups that are stored now.
 * @param known records that need not be read again; each other one is
 * @param isBelieved whether a known one is believed to be whole as long as its folder is there: retention takes a backup out
 *   of `catalog.json` before it touches it. The newest ones are looked at all the same, by which a person who removed one
 *   by hand is noticed. Otherwise the record of each is looked for.
 */
export async function storedBackups(
  storage: Storage,
  cluster: string,
  known: Backups = NO_BACKUPS,
  isBelieved = false,
): Promise<Backups & Pick<Catalog, 'damaged'>> {
  const byId = new Map([...known.backups, ...known.logical].map((backup) => [backup.id, backup]))
  const ids: string[] = []
  for await (const id of storage.folders(backupsPrefix(cluster))) if (isBackupId(id)) ids.push(id)
  const watched = new Set(isBelieved ? ids.slice(-LOOKED_AT) : ids)
  const found = await sideBySide(ids, AT_ONCE, async (id): Promise<Found> => {
    const summary = byId.get(id)
    if (summary && !watched.has(id)) return { summary }
    if (summary && (await storage.stat(backupRecordKey(cluster, id)))) return { summary }
    try {
      return await readSummary(storage, cluster, id)
    } catch (error) {
      if (error instanceof PgrecallError && error.kind === 'damaged') return { id, reason: error.message }
      throw error
    }
  })
  const summaries = found.flatMap((each) => (each && 'summary' in each ? [each.summary] : []))
  return {
    backups: summaries.filter((summary) => summary.method !== 'logical'),
    logical: summaries.filter((summary) => summary.method === 'logical'),
    damaged: found.flatMap((each) => (each && 'reason' in each ? [each] : [])),
  }
}

type Found = { summary: BackupSummary | LogicalSummary } | { id: string; reason: string } | undefined

async function readSummary(storage: Storage, cluster: string, id: string): Promise<Found> {
  if (isLogicalId(id)) {
    const record = await readLogicalRecord(storage, cluster, id)
    return record && { summary: logicalSummaryOf(record) }
  }
  const record = await readBackupRecord(storage, cluster, id)
  return record && { summary: summaryOf(record) }
}

/** The id of the newest backup that is whole, of either kind. */
export function newestBackup(storage: Storage, cluster: string): Promise<string | undefined> {
  return newestOf(storage, cluster, isBackupId)
}

/** The same of those that a recovery can begin with. */
export function newestPhysical(storage: Storage, cluster: string): Promise<string | undefined> {
  return newestOf(storage, cluster, isPhysicalId)
}

async function newestOf(
  storage: Storage,
  cluster: string,
  isWanted: (name: string) => boolean,
): Promise<string | undefined> {
  const ids: string[] = []
  for await (const id of storage.folders(backupsPrefix(cluster))) if (isWanted(id)) ids.push(id)
  for (const id of ids.toReversed()) if (await storage.stat(backupRecordKey(cluster, id))) return id
  return undefined
}

/** The WAL in `catalog.json`, where it may be believed. */
function believableWal(
  { walSegmentBytes, walListedAt, wal }: StoredCatalog,
  segmentBytes: number,
  now: Date,
): TimelineWal[] | undefined {
  const age = now.getTime() - Date.parse(walListedAt)
  return walSegmentBytes === segmentBytes && age >= 0 && age < BELIEVED_MS ? wal : undefined
}

/**
 * Brings `catalog.json` up to date by looking only at what is new. Whoever does it at the same moment writes the same.
 * Never on the path of `wal-push`.
 * @returns what is stored now
 */
export async function updateCatalog(storage: Storage, cluster: string, now: Date): Promise<Catalog> {
  const catalog = await loadCatalog(storage, cluster, { believingWalAt: now })
  const certain = { ...catalog, ...(await withoutRemoved(storage, catalog)) }
  await saveCatalog(storage, certain, now)
  return certain
}

/** What retention has taken out of the catalog since it was read must not be put back: it is believed where it stands. */
async function withoutRemoved(
  storage: Storage,
  { cluster, systemIdentifier, backups, logical }: Catalog,
): Promise<Backups> {
  const stored = await readStoredCatalog(storage, cluster, systemIdentifier)
  const listed = new Set([...(stored?.backups ?? []), ...(stored?.logical ?? [])].map(({ id }) => id))
  const ids = [...backups, ...logical].map(({ id }) => id)
  const gone = new Set<string>()
  await sideBySide(ids, AT_ONCE, async (id) => {
    if (!listed.has(id) && !(await storage.stat(backupRecordKey(cluster, id)))) gone.add(id)
  })
  const isThere = ({ id }: { id: string }) => !gone.has(id)
  return { backups: backups.filter(isThere), logical: logical.filter(isThere) }
}

/** Writes `catalog.json`. Never on the path of `wal-push`. */
export async function saveCatalog(storage: Storage, catalog: Catalog, now: Date): Promise<void> {
  await storage.put(catalogKey(catalog.cluster), encodeCatalog(catalog, now))
}

/**
 * Ids of backups' folders that hold no complete backup: whoever holds the lock may remove them. A folder of any other
 * name is somebody else's.
 * @param known ids of backups that are complete
 */
export async function debrisOf(
  storage: Storage,
  cluster: string,
  known: readonly { id: string }[] = [],
): Promise<string[]> {
  const complete = new Set(known.map(({ id }) => id))
  const others: string[] = []
  for await (const id of storage.folders(backupsPrefix(cluster))) {
    if (isBackupId(id) && !complete.has(id)) others.push(id)
  }
  const records = await sideBySide(others, AT_ONCE, (id) => storage.stat(backupRecordKey(cluster, id)))
  return others.filter((_, index) => records[index] === undefined)
}

import { PgrecallError } from '../errors.ts'
import { sideBySide } from '../side-by-side.ts'
import type { Storage } from '../storage/storage.ts'
import { archivedWal } from './archived-wal.ts'
import { type BackupSummary, readBackupRecord, summaryOf } from './backup-record.ts'
import { type Catalog, encodeCatalog, readStoredCatalog } from './catalog-file.ts'
import { readIdentity, requireRepository } from './identity.ts'
import { partInTurn } from './in-turn.ts'
import {
  backupRecordKey,
  backupsPrefix,
  catalogKey,
  isBackupId,
  isIncrementId,
  isLogicalId,
  isPhysicalId,
} from './layout.ts'
import { type LogicalSummary, logicalSummaryOf, readLogicalRecord } from './logical-record.ts'
import { lostAmong } from './lost-records.ts'
import { readThinnedWal, withThinned } from './thinned-wal.ts'

export type { Catalog } from './catalog-file.ts'

const DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024
/** So many of the newest backups are looked at, whatever is believed of the others. */
const LOOKED_AT = 16
/** How many small requests are under way at once: a store that is far away answers each of them late. */
const AT_ONCE = 24
/** So many records are read anew by each look, in turn. */
const READ_IN_TURN = 2 * AT_ONCE

/** Without either, the record of each backup is looked for, and all WAL is listed. */
export interface LoadOptions {
  /** Reads every backup's record, too: what `catalog.json` says is not believed. For what decides what may be removed. */
  fresh?: boolean
  /**
   * For what only looks, or will read what it needs: `catalog.json` is believed as far as folders and the ends of the WAL
   * confirm it, and a part of it, which moves on with every look that is saved, is read and listed anew.
   */
  believing?: boolean
}

/**
 * What is stored now. What `catalog.json` already knows of backups is not read again, but none is believed that the
 * listing does not show: an outdated, damaged or missing catalog only makes this slower.
 */
export async function loadCatalog(
  storage: Storage,
  cluster: string,
  { fresh = false, believing = false }: LoadOptions = {},
): Promise<Catalog> {
  const identity = await readIdentity(storage, cluster)
  const readStored = () => readStoredCatalog(storage, cluster, identity?.systemIdentifier)
  const stored = fresh ? undefined : await readStored()
  const turn = believing ? stored?.looks : undefined
  const { backups, logical, damaged, withoutRecord } = await storedBackups(storage, cluster, stored, turn)
  const isAnyLost = fresh && withoutRecord.length > 0
  const lost = lostAmong(withoutRecord, backups, isAnyLost ? await readStored() : stored)
  const segmentBytes = identity?.walSegmentBytes ?? backups.at(-1)?.walSegmentBytes ?? DEFAULT_SEGMENT_BYTES
  const isSameSize = stored?.walSegmentBytes === segmentBytes
  const believed = turn !== undefined && isSameSize ? { wal: stored!.wal, turn } : undefined
  const found = await archivedWal({ storage, cluster, segmentBytes }, believed)
  const wal = withThinned(found, await readThinnedWal(storage, cluster))
  // A folder that is not mounted must not look like an empty repository.
  const isEmpty = backups.length + logical.length + damaged.length + wal.length === 0
  if (!identity && isEmpty) await requireRepository(storage)
  return {
    cluster,
    systemIdentifier: identity?.systemIdentifier,
    walSegmentBytes: segmentBytes,
    ...(turn !== undefined && { looks: turn + 1 }),
    backups,
    logical,
    wal,
    damaged,
    lost,
  }
}

/** Backups of both kinds. */
export type Backups = Pick<Catalog, 'backups' | 'logical'>

const NO_BACKUPS: Backups = { backups: [], logical: [] }

/**
 * The backups that are stored now.
 * @param known records that need not be read again; each other one is
 * @param turn how many looks there were before; then a known one is believed to be whole as long as its folder is there:
 *   retention takes a backup out of `catalog.json` before it touches it. By the newest ones, which are looked for all the
 *   same, and by some that are read anew in turn, it is noticed what a person removed or damaged. Without it the record of
 *   each is looked for.
 * @returns also the ids of the folders that have no record
 */
export async function storedBackups(
  storage: Storage,
  cluster: string,
  known: Backups = NO_BACKUPS,
  turn?: number,
): Promise<Backups & Pick<Catalog, 'damaged'> & { withoutRecord: string[] }> {
  const byId = new Map([...known.backups, ...known.logical].map((backup) => [backup.id, backup]))
  const ids: string[] = []
  for await (const id of storage.folders(backupsPrefix(cluster))) if (isBackupId(id)) ids.push(id)
  const watched = new Set(turn === undefined ? ids : ids.slice(-LOOKED_AT))
  const part = partInTurn(ids.length, READ_IN_TURN, turn ?? 0)
  const readAnew = new Set(turn === undefined ? [] : ids.slice(part.from, part.to))
  const found = await sideBySide(ids, AT_ONCE, async (id): Promise<Found> => {
    const summary = readAnew.has(id) ? undefined : byId.get(id)
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
    withoutRecord: ids.filter((_, index) => found[index] === undefined),
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

/**
 * Brings `catalog.json` up to date by looking only at what is new. Whoever does it at the same moment writes the same.
 * Never on the path of `wal-push`.
 * @returns what is stored now
 */
export async function updateCatalog(storage: Storage, cluster: string, now: Date): Promise<Catalog> {
  return saveLook(storage, await loadCatalog(storage, cluster, { believing: true }), now)
}

/**
 * Writes what a look found that believed a part.
 * @returns the same without what is gone since
 */
export async function saveLook(storage: Storage, catalog: Catalog, now: Date): Promise<Catalog> {
  const certain = { ...catalog, ...(await withoutRemoved(storage, catalog)) }
  await saveCatalog(storage, certain, now)
  return certain
}

/**
 * What retention has taken out of the catalog since it was read must not be put back: it is believed where it stands, and
 * its record is not lost.
 */
async function withoutRemoved(
  storage: Storage,
  { cluster, systemIdentifier, backups, logical, lost = [] }: Catalog,
): Promise<Backups & Pick<Catalog, 'lost'>> {
  const stored = await readStoredCatalog(storage, cluster, systemIdentifier)
  const listed = new Set([...(stored?.backups ?? []), ...(stored?.logical ?? [])].map(({ id }) => id))
  const ids = [...backups, ...logical].map(({ id }) => id)
  const gone = new Set<string>()
  await sideBySide(ids, AT_ONCE, async (id) => {
    if (!listed.has(id) && !(await storage.stat(backupRecordKey(cluster, id)))) gone.add(id)
  })
  const isThere = ({ id }: { id: string }) => !gone.has(id)
  const left = backups.filter(isThere)
  return { backups: left, logical: logical.filter(isThere), lost: lostAmong(lost, left, stored) }
}

/** Writes `catalog.json` of what was read, and not only believed. Never on the path of `wal-push`. */
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

/**
 * What of it killed runs have left, and nobody needs: not what there is of a backup that lost its record; nor what is older
 * than an incremental one whose record cannot be read, which may build upon it.
 */
export async function needlessDebris(storage: Storage, catalog: Catalog): Promise<string[]> {
  const { cluster, backups, logical, damaged, lost = [] } = catalog
  const unreadable = [...damaged, ...lost.map((id) => ({ id }))]
  const debris = await debrisOf(storage, cluster, [...backups, ...logical, ...unreadable])
  const isNeeded = (id: string) =>
    isPhysicalId(id) && unreadable.some((other) => isIncrementId(other.id) && id < other.id)
  return debris.filter((id) => !isNeeded(id))
}

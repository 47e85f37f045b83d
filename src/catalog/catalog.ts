import { z } from 'zod'
import { readObject, type Storage } from '../storage/storage.ts'
import { type BackupSummary, BackupSummarySchema, readBackupRecord, summaryOf } from './backup-record.ts'
import { FORMAT, readIdentity, requireRepository } from './identity.ts'
import { backupRecordKey, backupsPrefix, catalogKey, isBackupId, walPrefix } from './layout.ts'
import { type TimelineWal, walTimelines } from './wal-ranges.ts'

/**
 * The catalog of one cluster in one repository: its backups, oldest first, and the WAL that is archived.
 * `catalog.json` keeps it so that few objects need to be read; it is derived, and checked against what is stored
 * each time it is used.
 */
export interface Catalog {
  cluster: string
  systemIdentifier: string | undefined
  walSegmentBytes: number
  backups: BackupSummary[]
  wal: TimelineWal[]
  /** Backups whose record cannot be believed, with the reason. */
  damaged: { id: string; reason: string }[]
}

const StoredSchema = z.object({ format: z.literal(FORMAT), backups: z.array(BackupSummarySchema) })
const DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024

/**
 * What is stored now. What `catalog.json` already knows is not read again, but nothing is believed that the
 * listing does not show: an outdated, damaged or missing catalog only makes this slower.
 * @param options `fresh` reads every backup's record and ignores what `catalog.json` says
 */
export async function loadCatalog(
  storage: Storage,
  cluster: string,
  options: { fresh?: boolean } = {},
): Promise<Catalog> {
  const [identity, known] = await Promise.all([
    readIdentity(storage, cluster),
    options.fresh ? [] : knownBackups(storage, cluster),
  ])
  const byId = new Map(known.map((backup) => [backup.id, backup]))
  const backups: BackupSummary[] = []
  const damaged: Catalog['damaged'] = []
  for await (const id of storage.folders(backupsPrefix(cluster))) {
    if (!isBackupId(id)) continue
    if (byId.has(id) && (await storage.stat(backupRecordKey(cluster, id)))) {
      backups.push(byId.get(id)!)
      continue
    }
    try {
      const record = await readBackupRecord(storage, cluster, id)
      if (record) backups.push(summaryOf(record))
    } catch (error) {
      damaged.push({ id, reason: (error as Error).message })
    }
  }
  const segmentBytes = identity?.walSegmentBytes ?? backups.at(-1)?.walSegmentBytes ?? DEFAULT_SEGMENT_BYTES
  const wal = await walTimelines(storage.list(walPrefix(cluster)), segmentBytes)
  // A folder that is not mounted must not look like an empty repository.
  if (!identity && backups.length + damaged.length + wal.length === 0) await requireRepository(storage)
  return {
    cluster,
    systemIdentifier: identity?.systemIdentifier,
    walSegmentBytes: segmentBytes,
    backups,
    wal,
    damaged,
  }
}

/** Writes `catalog.json`. Never on the path of `wal-push`. */
export async function saveCatalog(storage: Storage, catalog: Catalog, now: Date): Promise<void> {
  const { damaged: _damaged, ...derived } = catalog
  const stored = { format: FORMAT, updatedAt: now.toISOString(), ...derived }
  await storage.put(catalogKey(catalog.cluster), Buffer.from(`${JSON.stringify(stored, undefined, 1)}\n`))
}

/**
 * Ids of backups' folders that hold no complete backup: whoever holds the lock may remove them. A folder of any other
 * name is somebody else's.
 */
export async function debrisOf(storage: Storage, cluster: string): Promise<string[]> {
  const debris: string[] = []
  for await (const id of storage.folders(backupsPrefix(cluster))) {
    if (isBackupId(id) && !(await storage.stat(backupRecordKey(cluster, id)))) debris.push(id)
  }
  return debris
}

async function knownBackups(storage: Storage, cluster: string): Promise<BackupSummary[]> {
  const bytes = await readObject(storage, catalogKey(cluster))
  if (!bytes) return []
  try {
    return StoredSchema.parse(JSON.parse(bytes.toString('utf8'))).backups
  } catch {
    return []
  }
}

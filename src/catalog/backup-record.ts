import { z } from 'zod'
import { parseLsn } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import { FORMAT } from './identity.ts'
import { isBackupId, isPhysicalId } from './layout.ts'
import { readRecord } from './record-file.ts'

const count = z.number().int().nonnegative()
const position = z.string().refine((text) => parseLsn(text) !== undefined, 'not an LSN')
const walFile = z.string().regex(/^[0-9A-F]{24}$/)
const sha256 = z.string().regex(/^[0-9a-f]{64}$/)
/** A name inside a backup's folder: never a path. */
const objectName = z.string().regex(/^[A-Za-z0-9_-][A-Za-z0-9._-]*$/)

/** What `catalog.json` keeps of each backup: all but its lists. */
export const BackupSummarySchema = z.object({
  format: z.literal(FORMAT),
  id: z.string().refine(isBackupId, 'not a backup id'),
  cluster: z.string(),
  /** An incremental backup (`incr`) builds upon any other, a differential one (`diff`) upon a full one. */
  type: z.enum(['full', 'diff', 'incr']),
  /** The backup that it builds upon; absent of a full one. */
  parent: z
    .object({ id: z.string().refine(isBackupId, 'not a backup id'), startLsn: position, timeline: count })
    .exactOptional(),
  /** Of a backup with a parent: how it was found out what has changed since, and how much that was. */
  increment: z
    .object({
      source: z.enum(['wal-summaries', 'page-lsns', 'server']),
      /** Why it was not found out in the cheaper way. */
      reason: z.string().exactOptional(),
      changedBlocks: count,
      /** What was read of the cluster's files. */
      readBytes: count.exactOptional(),
    })
    .exactOptional(),
  /**
   * Nothing told of all heap pages that became all-visible, so this backup has no visibility maps, and none that builds
   * upon it may have them.
   */
  withoutVisibilityMaps: z.literal(true).exactOptional(),
  /** Of a full backup that was put together from a chain: the chain's links, oldest first. */
  consolidatedFrom: z.array(z.string().refine(isBackupId, 'not a backup id')).exactOptional(),
  method: z.enum(['files', 'stream', 'snapshot', 'cold']),
  label: z.string(),
  systemIdentifier: z.string(),
  /** `version` as in server_version_num: 150018 for 15.18. */
  postgres: z.object({ version: count, text: z.string() }),
  timeline: count,
  /** The backup's recovery begins at `start.lsn` and is consistent at `stop.lsn`. Times are the server's clock. */
  start: z.object({ lsn: position, walFile, time: z.string() }),
  stop: z.object({ lsn: position, walFile, time: z.string() }),
  /** Every transaction with a lower id (64 bits) had ended at the stop. */
  xminAtStop: z.string().regex(/^\d+$/),
  /** Whether the WAL from start to stop is inside the backup. */
  standalone: z.boolean(),
  fromStandby: z.boolean().default(false),
  dataChecksums: z.boolean(),
  /** Pages whose checksum was wrong; absent where no pages were checked. */
  damagedPages: count.optional(),
  walSegmentBytes: count,
  dataDirectory: z.string(),
  /** Whose the data directory was. */
  owner: z.object({ uid: count, gid: count }),
  outsideFiles: z.array(z.string()),
  tablespaces: z.array(
    z.object({ oid: z.string().regex(/^\d+$/), name: z.string(), location: z.string(), bytes: count }),
  ),
  /** As they were called at the end of the backup; absent where that is not known. */
  databases: z.array(z.object({ oid: z.string().regex(/^\d+$/), name: z.string() })).exactOptional(),
  codec: z.string(),
  /** The public keys for which the objects are encrypted; absent where they are not. */
  recipients: z.array(z.string()).optional(),
  /** Files, their plain bytes, and the bytes of all objects of the backup. */
  files: count,
  dataBytes: count,
  /** Bytes of the cluster's files as a restore writes them, where that is not `dataBytes`. */
  clusterBytes: count.exactOptional(),
  storedBytes: count,
  /** Of the data, what an interrupted backup had stored already. */
  resumedBytes: count.default(0),
  startedAt: z.string(),
  finishedAt: z.string(),
  tool: z.object({ name: z.string(), version: z.string() }),
  warnings: z.array(z.string()),
})

/** An object of a backup as it lies in one repository. The sum is of the stored bytes: it can be checked without any key. */
export const StoredObjectSchema = z.object({
  /** In the backup's folder; ends in `.age` where it is encrypted. */
  name: objectName,
  /** All of it. */
  bytes: count,
  /** Hexadecimal; of an encrypted object without its age header, which a rotation of keys replaces. */
  sha256,
  /** The age header of an encrypted object. */
  header: z.object({ bytes: count, sha256 }).exactOptional(),
})

const ObjectSchema = StoredObjectSchema.extend({
  kind: z.enum(['shard', 'manifest', 'index', 'text']),
  /** Of a shard: what it holds: `base`, a tablespace's oid, or `wal`. */
  group: z
    .string()
    .regex(/^(?:base|wal|\d+)$/)
    .optional(),
  members: count.optional(),
  plainBytes: count.optional(),
})

/** Pages of one file whose checksum was wrong when they were copied. */
const DamagedFileSchema = z.object({
  /** In the data directory; of a tablespace below `pg_tblspc/<oid>/`. */
  path: z.string(),
  pages: count,
  /** Runs of blocks, numbered within the relation, first and last; of a file with many only the first ones. */
  blocks: z.array(z.tuple([count, count])),
})

export const BackupRecordSchema = BackupSummarySchema.extend({
  damaged: z.array(DamagedFileSchema).default([]),
  objects: z.array(ObjectSchema),
})

export type BackupSummary = z.infer<typeof BackupSummarySchema>
export type DamagedFile = z.infer<typeof DamagedFileSchema>
export type StoredObject = z.infer<typeof StoredObjectSchema>
export type BackupObject = z.infer<typeof ObjectSchema>
/** `backup.json`: the commit of a backup. */
export type BackupRecord = z.infer<typeof BackupRecordSchema>

/** `backup.json` before the last object is stored and the end is known. */
export type BackupDraft = Omit<BackupRecord, 'storedBytes' | 'finishedAt'>

/**
 * Reads `backup.json`.
 * @returns undefined when the backup does not exist, or is not complete
 * @throws PgrecallError `damaged` when the record cannot be believed
 */
export async function readBackupRecord(
  storage: Storage,
  cluster: string,
  id: string,
): Promise<BackupRecord | undefined> {
  return isPhysicalId(id) ? readRecord(storage, cluster, id, BackupRecordSchema) : undefined
}

/** A backup without its lists. */
export function summaryOf(record: BackupRecord): BackupSummary {
  const { objects: _objects, damaged: _damaged, ...summary } = record
  return summary
}

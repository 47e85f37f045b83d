import { z } from 'zod'
import { parseLsn } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import { StoredObjectSchema } from './backup-record.ts'
import { FORMAT } from './identity.ts'
import { isLogicalId } from './layout.ts'
import { readRecord } from './record-file.ts'

const count = z.number().int().nonnegative()
const position = z.string().refine((text) => parseLsn(text) !== undefined, 'not an LSN')
const oid = z.string().regex(/^\d+$/)
const names = z.array(z.string())

/** What of each database is in a backup: all, where nothing is said. As `pg_dump` has its options. */
export const SelectionSchema = z.object({
  tables: names.exactOptional(),
  excludeTables: names.exactOptional(),
  excludeTableData: names.exactOptional(),
  schemas: names.exactOptional(),
  excludeSchemas: names.exactOptional(),
  only: z.enum(['schema', 'data']).exactOptional(),
  /** Given behind `--`. */
  extra: names.exactOptional(),
})

/** Which databases were asked for, by names and patterns: all, where nothing is said. */
const ChoiceSchema = z.object({
  databases: names.exactOptional(),
  excludeDatabases: names.exactOptional(),
})

/** What a database is made with. */
const DatabaseSchema = z.object({
  oid,
  name: z.string(),
  owner: z.string(),
  encoding: z.string(),
  /** As `CREATE DATABASE` has them; `locale` is ICU's or the builtin provider's own. */
  collate: z.string(),
  ctype: z.string(),
  provider: z.enum(['libc', 'icu', 'builtin']),
  locale: z.string().exactOptional(),
  /** The moment of its snapshot: where the WAL was, and the server's clock. */
  lsn: position,
  time: z.string(),
  /** What it took up on the server. */
  bytes: count,
  /** How many things of each type its dump has, as `pg_restore --list` calls them: TABLE, INDEX... */
  contents: z.record(z.string(), count),
})

/** What `catalog.json` keeps of each logical backup: all but its objects. */
export const LogicalSummarySchema = z.object({
  format: z.literal(FORMAT),
  id: z.string().refine(isLogicalId, "not a logical backup's id"),
  cluster: z.string(),
  method: z.literal('logical'),
  /** A `pg_dump` archive for each database, or one script of `pg_dumpall`. */
  form: z.enum(['archives', 'script']),
  label: z.string(),
  systemIdentifier: z.string(),
  /** The role that made the cluster; a scratch server has to have the same one. Older records do not say it. */
  bootstrapSuperuser: z.string().exactOptional(),
  /** `version` as in server_version_num: 150018 for 15.18. */
  postgres: z.object({ version: count, text: z.string() }),
  /** The `pg_dump` that made it: its major version, without which or a later one it cannot be read. */
  dumpVersion: count,
  fromStandby: z.boolean(),
  /** Whether roles and tablespaces are in it. */
  hasGlobals: z.boolean(),
  databases: z.array(DatabaseSchema),
  choice: ChoiceSchema.exactOptional(),
  selection: SelectionSchema.exactOptional(),
  /** Who compresses: `pg_dump` inside of its archives, or we around them. */
  compressedBy: z.enum(['pg_dump', 'pgrecall']),
  codec: z.string(),
  /** The public keys for which the objects are encrypted; absent where they are not. */
  recipients: z.array(z.string()).exactOptional(),
  /** What the programs gave out, and the bytes of all objects. */
  dumpedBytes: count,
  storedBytes: count,
  startedAt: z.string(),
  finishedAt: z.string(),
  tool: z.object({ name: z.string(), version: z.string() }),
  warnings: z.array(z.string()),
})

const LogicalObjectSchema = StoredObjectSchema.extend({
  kind: z.enum(['dump', 'globals', 'script', 'contents', 'fingerprint', 'text']),
  /** Of a dump: of which database. */
  database: oid.exactOptional(),
  /** Of a dump: `custom`, one file; `directory`, a tar of the folder. */
  archive: z.enum(['custom', 'directory']).exactOptional(),
  plainBytes: count.exactOptional(),
})

export const LogicalRecordSchema = LogicalSummarySchema.extend({ objects: z.array(LogicalObjectSchema) })

export type Selection = z.infer<typeof SelectionSchema>
export type DumpedDatabase = z.infer<typeof DatabaseSchema>
export type LogicalSummary = z.infer<typeof LogicalSummarySchema>
export type LogicalObject = z.infer<typeof LogicalObjectSchema>
/** `backup.json` of a logical backup: its commit. */
export type LogicalRecord = z.infer<typeof LogicalRecordSchema>
/** Before the last object is stored and the end is known. */
export type LogicalDraft = Omit<LogicalRecord, 'storedBytes' | 'finishedAt'>

/**
 * Reads `backup.json` of a logical backup.
 * @returns undefined when it does not exist, or is not complete
 * @throws PgrecallError `damaged` when the record cannot be believed
 */
export async function readLogicalRecord(
  storage: Storage,
  cluster: string,
  id: string,
): Promise<LogicalRecord | undefined> {
  return isLogicalId(id) ? readRecord(storage, cluster, id, LogicalRecordSchema) : undefined
}

/** Whether a backup has all of the cluster, as far as a dump can: only such a one can stand for another. */
export function isWhole({ choice, selection, hasGlobals }: LogicalSummary): boolean {
  return choice === undefined && selection === undefined && hasGlobals
}

/** A logical backup without its objects. */
export function logicalSummaryOf(record: LogicalRecord): LogicalSummary {
  const { objects: _objects, ...summary } = record
  return summary
}

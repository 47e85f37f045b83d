import type { DumpedDatabase } from '../catalog/logical-record.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { placeOf, relationsOf } from '../logical/fingerprint-relations.ts'
import { closedAtSignal } from '../logical/restore-run.ts'
import type { Environment, Program } from '../postgres/client-programs.ts'
import { pgDump } from '../postgres/pg-dump.ts'
import { listArchive } from '../postgres/pg-restore.ts'
import { type ConnectionOptions, Server } from '../postgres/server.ts'

/** What counts things as they were counted when the backup was taken. */
export interface CountPrograms {
  dump: Program
  restore: Program
}

type Connection = ConnectionOptions & { database: string }

/**
 * Counts the tables of a database and their rows, one statement each. Partitioned tables have no rows of their own; those of
 * extensions are left out.
 * @returns what could not be counted, a sentence each, as remarks
 * @throws PgrecallError `connection`
 */
export async function countRows(
  connection: Connection,
  signal: AbortSignal,
): Promise<{ tables: number; rows: number; remarks: string[] }> {
  await using session = await Server.connect(connection)
  using _closed = closedAtSignal(session, signal)
  const relations = await relationsOf(session)
  const tables = relations.filter(({ relkind, ofExtension }) => relkind === 'r' && !ofExtension)
  const remarks: string[] = []
  let rows = 0
  for (const table of tables) {
    try {
      const { count } = await session.one<{ count: string }>(
        `SELECT count(*)::text FROM ONLY ${placeOf(table)}`,
      )
      rows += Number(count)
    } catch (error) {
      if (error instanceof PgrecallError) throw error
      // As where the name is in an encoding that the database does not know.
      remarks.push(`${placeOf(table)}: not counted: ${reasonOf(error)}`)
    }
  }
  return { tables: tables.length, rows, remarks }
}

const ATTACH = 'TABLE ATTACH'
/** The first `pg_dump` that has an entry for it, apart from the partition's. @see src/bin/pg_dump/pg_dump.c: dumpTableAttach */
const ATTACHES_APART = 14

/**
 * Types of entries of which a dump has one for each thing, whatever the version of `pg_dump`. Others come and go: with the
 * version, as statistics and the metadata of large objects; with owners, as the schema `public` and privileges; with the order
 * in which things depend on each other, as defaults and check constraints that stand alone.
 */
const COUNTED = [
  'ACCESS METHOD',
  'AGGREGATE',
  'CAST',
  'COLLATION',
  'CONSTRAINT',
  'CONVERSION',
  'DOMAIN',
  'EVENT TRIGGER',
  'EXTENSION',
  'FK CONSTRAINT',
  'FOREIGN DATA WRAPPER',
  'FOREIGN TABLE',
  'FUNCTION',
  'INDEX',
  'INDEX ATTACH',
  'MATERIALIZED VIEW',
  'OPERATOR',
  'OPERATOR CLASS',
  'OPERATOR FAMILY',
  'POLICY',
  'PROCEDURAL LANGUAGE',
  'PROCEDURE',
  'PUBLICATION',
  'PUBLICATION TABLE',
  'PUBLICATION TABLES IN SCHEMA',
  'ROW SECURITY',
  'RULE',
  'SEQUENCE',
  'SERVER',
  'STATISTICS',
  'SUBSCRIPTION',
  'TABLE',
  ATTACH,
  'TEXT SEARCH CONFIGURATION',
  'TEXT SEARCH DICTIONARY',
  'TEXT SEARCH PARSER',
  'TEXT SEARCH TEMPLATE',
  'TRANSFORM',
  'TRIGGER',
  'TYPE',
  'USER MAPPING',
  'VIEW',
]

/**
 * Dumps the definitions of a restored database, and compares how many things of which type there are with what its dump had: by
 * PostgreSQL's own notion of what there is.
 * @returns what is not the same, a sentence each
 * @throws PgrecallError as `pgDump` and `listArchive`
 */
export async function compareContents(
  { dump, restore }: CountPrograms,
  env: Environment,
  connection: Connection,
  recorded: { contents: DumpedDatabase['contents']; dumpVersion: number },
  signal: AbortSignal,
): Promise<string[]> {
  const archive = pgDump(dump, env, {
    connection,
    format: 'custom',
    selection: { schemaOnly: true },
    signal,
    onWarning: () => {},
  })
  const { entries } = await listArchive(restore, env, archive, { signal })
  const counted = (type: string) => entries.filter((entry) => entry.type === type).length
  return countedTypes(recorded.dumpVersion, dump.majorVersion).flatMap((type) => {
    const [before, after] = [recorded.contents[type] ?? 0, counted(type)]
    return before === after ? [] : [`${type}: ${after} instead of ${before}`]
  })
}

/** Pure. Exported for tests. @param taken the major version of the `pg_dump` of the backup @param counting of the one here */
export const countedTypes = (taken: number, counting: number): readonly string[] =>
  taken < ATTACHES_APART && counting >= ATTACHES_APART ? COUNTED.filter((type) => type !== ATTACH) : COUNTED

import pg from 'pg'
import { reasonOf } from '../errors.ts'
import type { ArchiveEntry } from '../postgres/archive-list.ts'
import { quoteIdentifier, type Server } from '../postgres/server.ts'
import { holdStill, placeOf, type Relation, relationsOf } from './fingerprint-relations.ts'

/** What tells whether rows are the same somewhere else: on another server, of another version, encoding or locale. */
export interface TableFingerprint {
  kind: 'table' | 'materialized view' | 'sequence' | 'large objects'
  /** Neither is there of large objects. */
  schema?: string
  name?: string
  /** How many rows, or large objects; of a sequence there is no such number. */
  rows?: number
  /** The sum of a hash of each row, in whatever order; of a sequence its last value, and whether that was given out. */
  content?: string
  /** Why it could not be counted; then there is neither number nor sum. */
  fault?: string
}

export interface FingerprintOptions {
  /** Of `pg_export_snapshot()`; the present moment when left out. */
  snapshot?: string
  /** Keys of those that are wanted; all but what belongs to extensions when left out. */
  only?: { has: (key: string) => boolean }
  /** Longest wait for the lock of a table; without a limit when left out. */
  lockWaitMs?: number
  signal: AbortSignal
}

type Named = Pick<TableFingerprint, 'kind' | 'schema' | 'name'>

/** Which table it is of, for people. */
export function fingerprintText({ kind, schema, name }: Named): string {
  return kind === 'large objects' ? kind : `${kind} "${schema}"."${name}"`
}

/** The same for a thing on a server and in an archive's list, where line breaks are spaces. */
export function fingerprintKey({ kind, schema = '', name = '' }: Named): string {
  return `${kind} ${schema} ${name}`.replace(/[\r\n]/g, ' ')
}

type Kinds = Record<string, TableFingerprint['kind']>

const KINDS_OF_DATA: Kinds = {
  'TABLE DATA': 'table',
  'MATERIALIZED VIEW DATA': 'materialized view',
  'SEQUENCE SET': 'sequence',
  BLOBS: 'large objects',
  BLOB: 'large objects',
  'BLOB METADATA': 'large objects',
}

const KINDS_OF_RELATIONS: Kinds = {
  TABLE: 'table',
  'MATERIALIZED VIEW': 'materialized view',
  SEQUENCE: 'sequence',
}

/** What an archive has the rows of, by its keys. */
export const keysOfData = (entries: readonly ArchiveEntry[]) => keysOf(entries, KINDS_OF_DATA)

/** What an archive makes, with rows or without, by its keys. */
export const keysOfRelations = (entries: readonly ArchiveEntry[]) => keysOf(entries, KINDS_OF_RELATIONS)

function keysOf(entries: readonly ArchiveEntry[], kinds: Kinds): Map<string, Named> {
  return new Map(
    entries.flatMap(({ type, schema = '', name }): [string, Named][] => {
      const kind = kinds[type]
      if (kind === undefined) return []
      const named = kind === 'large objects' ? { kind } : { kind, schema, name }
      return [[fingerprintKey(named), named]]
    }),
  )
}

/** What an archive has the rows of, and nobody could find by its name. */
export function notFound(
  wanted: ReadonlyMap<string, Named>,
  counted: readonly TableFingerprint[],
): TableFingerprint[] {
  const found = new Set(counted.map(fingerprintKey))
  return [...wanted]
    .filter(([key]) => !found.has(key))
    .map(([, named]) => ({ ...named, fault: 'nothing was found by the name that the archive has' }))
}

/**
 * Whatever the role, the database and the server are set to, values are written in one way. What a server does not know is
 * left out; one that has lost us notices soon.
 */
const SETTINGS = {
  bytea_output: 'hex',
  client_connection_check_interval: '1000',
  datestyle: 'ISO, YMD',
  extra_float_digits: '3',
  idle_in_transaction_session_timeout: '0',
  intervalstyle: 'postgres',
  lc_monetary: 'C',
  quote_all_identifiers: 'off',
  row_security: 'off',
  search_path: '',
  timezone: 'UTC',
}

/**
 * Counts and sums the rows of each table, partition and materialized view, as the server sees them in one moment, and tells
 * the last values of sequences, which belong to no moment. The server does the work, a statement for each.
 *
 * Partitioned tables have no rows of their own, and those of foreign tables are elsewhere. Generated columns are left out, as
 * they are from a dump. What cannot be read says why.
 *
 * A snapshot does not show what was truncated, rewritten or dropped since: as soon as the tables are known all are locked
 * against that, as `pg_dump` locks them, and what came before the lock is told.
 *
 * The hash is MD5, half of it: `hashtextextended` is of the server's own making, which no version promises to keep, and which
 * differs with the order of a processor's bytes. It guards against mistakes and damage, not against malice.
 * @param server in the database, without a transaction; is closed when the signal aborts
 * @throws PgrecallError `connection`; the signal's reason
 */
export async function* fingerprintsOf(
  server: Server,
  options: FingerprintOptions,
): AsyncGenerator<TableFingerprint> {
  const { signal, only } = options
  signal.throwIfAborted()
  // A statement that runs for an hour is not waited for.
  const stop = () => void server.close()
  signal.addEventListener('abort', stop, { once: true })
  try {
    await begin(server, options)
    const hash = await hashExpression(server)
    const wanted = (await relationsOf(server)).filter((relation) =>
      only ? only.has(fingerprintKey(namedOf(relation))) : !relation.ofExtension,
    )
    const faults = new Map<Relation, string>()
    for (const relation of wanted) {
      const { fault } = await attempt(server, async () => ({ fault: await holdStill(server, relation) }))
      if (fault !== undefined) faults.set(relation, fault)
    }
    for (const relation of wanted) {
      const fault = faults.get(relation)
      const measured =
        fault === undefined ? await attempt(server, () => ofRelation(server, relation, hash)) : { fault }
      yield { ...namedOf(relation), ...measured }
    }
    const objects = { kind: 'large objects' } as const
    if (only?.has(fingerprintKey(objects)) ?? true)
      yield { ...objects, ...(await attempt(server, () => ofLargeObjects(server))) }
    await server.query('COMMIT')
  } catch (error) {
    signal.throwIfAborted()
    throw error
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

async function begin(server: Server, { snapshot, lockWaitMs = 0 }: FingerprintOptions): Promise<void> {
  await server.query('BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY')
  // A part of the statement's grammar, which takes no parameters.
  if (snapshot !== undefined)
    await server.query(`SET TRANSACTION SNAPSHOT '${snapshot.replaceAll("'", "''")}'`)
  await server.query(
    `SELECT set_config(name, value, true)
       FROM json_each_text($1) JOIN pg_settings ON lower(name) = key
            -- Other systems than Linux may know it and not have it.
            AND (key <> 'client_connection_check_interval' OR version() ~ 'linux')`,
    [JSON.stringify({ ...SETTINGS, lock_timeout: String(lockWaitMs) })],
  )
}

/** Of the text `row`: the same bytes are hashed whatever the encoding; SQL_ASCII does not know what its bytes mean. */
async function hashExpression(server: Server): Promise<(row: string) => string> {
  const { encoding } = await server.one<{ encoding: string }>(
    'SELECT pg_encoding_to_char(encoding) AS encoding FROM pg_database WHERE datname = current_database()',
  )
  const isAsItIs = encoding === 'UTF8' || encoding === 'SQL_ASCII'
  return (row) => firstHalf(`md5(${isAsItIs ? row : `convert_to(${row}, 'UTF8')`})`)
}

const firstHalf = (digest: string) => `('x' || left(${digest}, 16))::bit(64)::bigint`

const KINDS = { r: 'table', m: 'materialized view', S: 'sequence' } as const

export const namedOf = ({ relkind, schema, name }: Relation) => ({ kind: KINDS[relkind], schema, name })

type Measured = Pick<TableFingerprint, 'rows' | 'content' | 'fault'>

/** What the server refuses of one table is told of that, and the transaction goes on. */
async function attempt<Result extends { fault?: string | undefined }>(
  server: Server,
  measure: () => Promise<Result>,
): Promise<Result | { fault: string }> {
  await server.query('SAVEPOINT one')
  try {
    return await measure()
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error
    await server.query('ROLLBACK TO SAVEPOINT one')
    return { fault: reasonOf(error) }
  } finally {
    if (!server.lost.aborted) await server.query('RELEASE SAVEPOINT one').catch(() => {})
  }
}

async function ofRelation(
  server: Server,
  relation: Relation,
  hash: (row: string) => string,
): Promise<Measured> {
  const { relkind, columns } = relation
  const where = placeOf(relation)
  if (relkind === 'S') {
    const { last, called } = await server.one<{ last: string; called: boolean }>(
      `SELECT last_value::text AS last, is_called AS called FROM ${where}`,
    )
    return { content: `${last}, ${called ? 'given out' : 'not given out'}` }
  }
  // By name: where a table inherits, a restored one can have its columns in another order.
  const values = columns
    .toSorted((one, other) => (one.name < other.name ? -1 : 1))
    .map((column) => valueExpression(`t.${quoteIdentifier(column.name)}`, column.type))
  return countedAndSummed(server, hash(`ROW(${values.join(', ')})::text`), `ONLY ${where} AS t`)
}

/** Versions before 12 write floating-point numbers otherwise; their bytes are the same everywhere. */
function valueExpression(value: string, type: string): string {
  return type === 'real'
    ? `float4send(${value})`
    : type === 'double precision'
      ? `float8send(${value})`
      : value
}

async function countedAndSummed(
  server: Server,
  hash: string,
  from: string,
): Promise<Required<Pick<Measured, 'rows' | 'content'>>> {
  const { rows, sum } = await server.one<{ rows: string; sum: string }>(
    `SELECT count(*)::text AS rows, coalesce(sum(${hash}), 0)::text AS sum FROM ${from}`,
  )
  return { rows: Number(rows), content: sum }
}

/**
 * They lie in pages, and what was never written has none, or a short one: there a dump has zeros. So zeros at the end of a
 * page are nothing.
 */
async function ofLargeObjects(server: Server): Promise<Measured> {
  const { rows, isReadable } = await server.one<{ rows: string; isReadable: boolean }>(
    `SELECT count(*)::text AS rows, has_table_privilege('pg_largeobject', 'SELECT') AS "isReadable"
       FROM pg_largeobject_metadata`,
  )
  if (Number(rows) === 0) return { rows: 0, content: '0' }
  if (!isReadable) return { rows: Number(rows), fault: 'the role may not read them all' }
  const page = `rtrim(encode(data, 'hex'), '0')`
  const { content } = await countedAndSummed(
    server,
    firstHalf(`md5(loid::text || ' ' || pageno::text || ' ' || ${page})`),
    `pg_largeobject WHERE ${page} <> ''`,
  )
  return { rows: Number(rows), content }
}

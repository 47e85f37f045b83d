import { escapeIdentifier, escapeLiteral } from 'pg'
import type { Cluster } from '../lab/cluster.ts'
import { INDEX_QUESTIONS } from './table-statements.ts'

/** What the tables of one database hold. */
export interface DatabaseSums {
  /** By name, catalogs too: rows, and a sum of all rows at their places. */
  tables: Record<string, string>
  /** The last value of each sequence. */
  sequences: Record<string, number>
  prepared: string[]
}

/** As many values of a sequence are logged ahead, and lost in a recovery. @see src/backend/commands/sequence.c */
const SEQUENCE_AHEAD = 32

/**
 * Sums the rows of all tables of all databases, at their places: a recovery brings each row back to its very page.
 * Catalogs are tables; large objects lie in one. Of unlogged tables only the number of rows is asked.
 */
export async function rowSums(cluster: Cluster): Promise<Record<string, DatabaseSums>> {
  const sums: Record<string, DatabaseSums> = {}
  for (const name of await databasesOf(cluster)) sums[name] = await sumsOf(cluster, name)
  return sums
}

export async function databasesOf(cluster: Cluster): Promise<string[]> {
  const rows = await cluster.sql<{ name: string }>(
    'SELECT datname AS name FROM pg_database WHERE datallowconn ORDER BY 1',
  )
  return rows.map(({ name }) => name)
}

async function sumsOf(cluster: Cluster, database: string): Promise<DatabaseSums> {
  await using client = await cluster.connect(database)
  const { rows } = await client.query<{ schema: string; name: string; kind: string; logged: boolean }>(`
    SELECT nspname AS schema, relname AS name, relkind AS kind, relpersistence = 'p' AS logged
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'm', 'S') AND relpersistence <> 't' ORDER BY 1, 2`)
  const place = (schema: string, name: string) => `${escapeIdentifier(schema)}.${escapeIdentifier(name)}`
  const ask = async (parts: string[]) =>
    parts.length === 0
      ? []
      : (await client.query<{ name: string; answer: string }>(parts.join(' UNION ALL '))).rows
  const tables = rows
    .filter(({ kind }) => kind !== 'S')
    .map(({ schema, name, logged }) => {
      const sum = logged
        ? `coalesce(sum(hashtextextended(ctid::text || t::text, 0)::numeric), 0)`
        : `'unlogged'`
      return `SELECT ${escapeLiteral(`${schema}.${name}`)} AS name, count(*) || ' rows, ' || ${sum} AS answer FROM ONLY ${place(schema, name)} t`
    })
  const sequences = rows
    .filter(({ kind }) => kind === 'S')
    .map(
      ({ schema, name }) =>
        `SELECT ${escapeLiteral(`${schema}.${name}`)} AS name, last_value::text AS answer FROM ${place(schema, name)}`,
    )
  const prepared = await client.query<{ gid: string }>(
    'SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY 1',
  )
  return {
    tables: Object.fromEntries((await ask(tables)).map(({ name, answer }) => [name, answer])),
    sequences: Object.fromEntries((await ask(sequences)).map(({ name, answer }) => [name, Number(answer)])),
    prepared: prepared.rows.map(({ gid }) => gid),
  }
}

/** @returns how a recovered cluster's rows are not the source's, in sentences */
export function unlikeRows(
  source: Record<string, DatabaseSums>,
  recovered: Record<string, DatabaseSums>,
): string[] {
  const problems: string[] = []
  for (const name of new Set([...Object.keys(source), ...Object.keys(recovered)])) {
    const [theirs, mine] = [source[name], recovered[name]]
    if (!theirs || !mine) {
      problems.push(`database ${name} is only in ${theirs ? 'the source' : 'the recovered cluster'}`)
      continue
    }
    for (const table of new Set([...Object.keys(theirs.tables), ...Object.keys(mine.tables)])) {
      const expected = theirs.tables[table]?.replace(/^\d+ rows, unlogged/, '0 rows, unlogged')
      const found = mine.tables[table]
      if (expected !== found) problems.push(`${name}: ${table} has ${found}, and in the source ${expected}`)
    }
    for (const [sequence, value] of Object.entries(theirs.sequences)) {
      const ahead = (mine.sequences[sequence] ?? Number.NaN) - value
      if (!(ahead >= 0 && ahead <= SEQUENCE_AHEAD))
        problems.push(`${name}: ${sequence} is at ${mine.sequences[sequence]}, and in the source at ${value}`)
    }
    if (mine.prepared.join() !== theirs.prepared.join())
      problems.push(`${name}: prepared are ${mine.prepared}, and in the source ${theirs.prepared}`)
  }
  return problems
}

/** Asks each index of the workload's tables for all rows. @returns those that do not find what is in the table */
export async function wrongIndexes(cluster: Cluster, database: string): Promise<string[]> {
  await using client = await cluster.connect(database)
  const { rows } = await client.query<{ name: string }>(`
    SELECT oid::regclass::text AS name FROM pg_class c
    WHERE relkind = 'r' AND relname ~ '^t[0-9]+(_p[0-9]+)?$' AND relnamespace = 'public'::regnamespace ORDER BY 1`)
  const questions = rows.flatMap(({ name }) =>
    Object.entries(INDEX_QUESTIONS).map(
      ([kind, condition]) =>
        `SELECT '${name}: ${kind}' AS what, count(*) || ' rows, ' || coalesce(sum(id), 0) AS answer FROM ${name} WHERE ${condition}`,
    ),
  )
  if (questions.length === 0) return []
  const ask = async (ways: string) => {
    await client.query(ways)
    const answers = await client.query<{ what: string; answer: string }>(questions.join(' UNION ALL '))
    return new Map(answers.rows.map(({ what, answer }) => [what, answer]))
  }
  const byIndex = await ask(waysOf({ table: 'off', index: 'on' }))
  const byTable = await ask(waysOf({ table: 'on', index: 'off' }))
  return [...byTable].flatMap(([what, answer]) => {
    const found = byIndex.get(what)
    return found === answer ? [] : [`${database}: ${what} finds ${found}, and the table has ${answer}`]
  })
}

function waysOf({ table, index }: { table: string; index: string }): string {
  const ways = { seqscan: table, bitmapscan: index, indexscan: index, indexonlyscan: index }
  return Object.entries(ways)
    .map(([way, use]) => `SET enable_${way} = ${use}`)
    .join('; ')
}

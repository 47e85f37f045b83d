import { escapeIdentifier } from 'pg'
import type { Cluster } from './cluster.ts'

export interface TableChecksum {
  /** `schema.table`, unquoted */
  table: string
  rows: number
  /** Of the rows' text, whatever their order. */
  checksum: string
}

/**
 * Counts and sums every table of a database in one snapshot. Unlogged tables are left out: PostgreSQL itself empties
 * them after a crash, and so after a restore.
 *
 * @returns in the order of the tables' names
 */
export async function tableChecksums(cluster: Cluster, database = 'postgres'): Promise<TableChecksum[]> {
  await using client = await cluster.connect(database)
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
  const tables = await client.query<{ schema: string; name: string }>(`
    SELECT n.nspname AS schema, c.relname AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence = 'p'
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`)
  const sums: TableChecksum[] = []
  for (const { schema, name } of tables.rows) {
    const { rows } = await client.query<{ rows: string; checksum: string }>(`
      SELECT count(*) AS rows, coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) AS checksum
      FROM ${escapeIdentifier(schema)}.${escapeIdentifier(name)} AS t`)
    sums.push({ table: `${schema}.${name}`, rows: Number(rows[0]!.rows), checksum: rows[0]!.checksum })
  }
  return sums
}

import type { Cluster } from '../../test/lab/cluster.ts'

/** PostgreSQL's usual page. */
export const PAGE_BYTES = 8192

/** Which column of which table tells by what step a row was changed; it is in no index. */
const CHANGED = [
  { table: 'pgbench_accounts', key: 'aid', column: 'abalance' },
  { table: 'note', key: 'id', column: 'score' },
]

/** Percentage: a page has room for another version of one of its rows, so that changing it changes no other page. */
export const FILLFACTOR = 90

/**
 * Changes one row on each of about so many pages, which are drawn at random from the tables of `mixedData`, and has
 * them written.
 *
 * @param pages how many
 * @param step a whole number from 1 on, another one each time: it is what the rows are set to, and the draw's seed
 * @returns how many pages of tables hold another row than before, as the places of the rows tell
 */
export async function changePages(cluster: Cluster, pages: number, step: number): Promise<number> {
  const [size] = await cluster.sql<{ pages: number }>(
    `SELECT sum(pg_relation_size(name))::float8 / ${PAGE_BYTES} AS pages FROM unnest($1::text[]) name`,
    { values: [CHANGED.map(({ table }) => table)] },
  )
  const percentage = (100 * pages) / size!.pages
  if (percentage > 100) throw new Error(`the tables have fewer than ${pages} pages`)
  let changed = 0
  for (const { table, column } of CHANGED) {
    // TABLESAMPLE SYSTEM draws pages, and of each all rows.
    const [row] = await cluster.sql<{ pages: number }>(`
      WITH drawn AS (
        SELECT min(ctid) AS place FROM ${table} TABLESAMPLE SYSTEM (${percentage}) REPEATABLE (${step})
        GROUP BY (ctid::text::point)[0]
      ), updated AS (
        UPDATE ${table} SET ${column} = ${step} FROM drawn WHERE ctid = place
        RETURNING place AS before, ${table}.ctid AS after
      )
      SELECT count(DISTINCT (place::text::point)[0])::int AS pages
      FROM (SELECT before AS place FROM updated UNION ALL SELECT after FROM updated) places`)
    changed += row!.pages
    // Its readers note on each page what became of its rows, which is a change of the page: now, not between later backups.
    await cluster.sql(`SELECT count(${column}) FROM ${table}`)
  }
  await cluster.sql('CHECKPOINT')
  await untilSummarized(cluster)
  return changed
}

/** A query for what all steps have done: rows by step, and the sum of their keys. */
export const ALL_CHANGES = `${CHANGED.map(
  ({ table, key, column }) => `
    SELECT '${table}' AS table, ${column}::int AS step, count(*)::int AS rows, sum(${key})::text AS keys
    FROM ${table} WHERE ${column} >= 1 GROUP BY ${column}`,
).join(' UNION ALL ')} ORDER BY 1, 2`

/** What a server does all along, so that no tool waits for it on behalf of the others. */
async function untilSummarized(cluster: Cluster): Promise<void> {
  if (cluster.programs.major < 17) return
  await cluster.waitUntil(
    '(SELECT summarized_lsn FROM pg_get_wal_summarizer_state()) >= (SELECT redo_lsn FROM pg_control_checkpoint())',
    { timeoutMs: 300_000 },
  )
}

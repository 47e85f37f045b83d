import type { Table } from './world.ts'

/** As many ids as one partition has. */
export const PARTITION_IDS = 2000

/** The tables of a workload all have these columns, and an index of each kind. */
const COLUMNS =
  'id bigint, k int, part int, word text, tags int[], place point, stamp timestamptz, doc text, pad text'

/** How each index is asked so that it must find all rows; the words of a query that counts them. */
export const INDEX_QUESTIONS: Record<string, string> = {
  btree: 'id >= 0',
  hash: 'k = ANY (ARRAY(SELECT generate_series(0, 996)))',
  gin: `tags && ARRAY(SELECT generate_series(0, 28))`,
  gist: `place <@ box '((-1,-1),(1000,1000))'`,
  spgist: `word ~>=~ ''`,
  brin: `stamp > '2000-01-01'`,
}

/** The numbers in them are kept, also when they are updated, within what the questions above ask for. */
export function createTable(table: Table, options: { fillfactor: number; tablespace?: string }): string[] {
  const { name } = table
  const persistence = table.logged ? '' : 'UNLOGGED '
  const place = options.tablespace ? ` TABLESPACE ${options.tablespace}` : ''
  const kind = table.partitions
    ? 'PARTITION BY RANGE (id)'
    : `WITH (fillfactor = ${options.fillfactor}, toast_tuple_target = 512)`
  return [
    `CREATE ${persistence}TABLE ${name} (${COLUMNS}, PRIMARY KEY (id)) ${kind}${place}`,
    `ALTER TABLE ${name} ALTER COLUMN doc SET STORAGE EXTERNAL`,
    `CREATE INDEX ${name}_hash ON ${name} USING hash (k)`,
    `CREATE INDEX ${name}_gin ON ${name} USING gin (tags)`,
    `CREATE INDEX ${name}_gist ON ${name} USING gist (place)`,
    `CREATE INDEX ${name}_spgist ON ${name} USING spgist (word)`,
    `CREATE INDEX ${name}_brin ON ${name} USING brin (stamp) WITH (pages_per_range = 4, autosummarize = off)`,
    `CREATE SEQUENCE ${name}_seq`,
  ]
}

/** Gives the rows of a range of ids, the same each time; in `template1`, so that every database has it. */
export const MADE_ROWS = `
  CREATE FUNCTION made_rows(first bigint, last bigint) RETURNS TABLE (${COLUMNS}) LANGUAGE sql AS $$
    SELECT i, ((i * 7919) % 997)::int, (i % 10)::int, md5(i || 'w'), ARRAY[i % 13, i % 29]::int[],
      point(i % 100, i % 37), timestamptz '2026-01-01 00:00:00+00' + i * interval '1 minute',
      CASE WHEN i % 11 = 0 THEN (SELECT string_agg(md5(i || '/' || n), '') FROM generate_series(1, 20 + i % 200) n) END,
      repeat('x', (i % 300)::int)
    FROM generate_series(first, last) i
  $$`

/** Inserts ids from the table's next one on. */
export function insert({ name, nextId }: Table, rows: number): string {
  return `INSERT INTO ${name} SELECT * FROM made_rows(${nextId}, ${nextId + rows - 1})`
}

export function createPartition(table: Table, number: number): string {
  const range = `FROM (${number * PARTITION_IDS}) TO (${(number + 1) * PARTITION_IDS})`
  return `CREATE TABLE ${table.name}_p${number} PARTITION OF ${table.name} FOR VALUES ${range}`
}

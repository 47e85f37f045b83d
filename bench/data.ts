import type { Cluster } from '../test/lab/cluster.ts'
import type { Fill } from './ground.ts'

/** Bytes of one unit of pgbench's scale, with its index. */
const PGBENCH_SCALE_BYTES = 15.7e6
/** Bytes of one row of `note`, with its entries in three indexes. */
const NOTE_BYTES = 610
/** Far more text than zstd's window at level 1 reaches back. */
const PARAGRAPHS = 50_000
const WORDS_IN_PARAGRAPH = 60
/** One commit for each table would be slow; one for all would need a lock for each. */
const TABLES_IN_TRANSACTION = 500

/**
 * Half pgbench's tables, half text and numbers with indexes.
 * @param bytes what the cluster is to weigh, roughly
 * @param fillfactor percentage; below 100, a page has room for another version of one of its rows
 */
export function mixedData(bytes: number, fillfactor = 100): Fill {
  return async (cluster) => {
    const scale = Math.max(1, Math.round(bytes / 2 / PGBENCH_SCALE_BYTES))
    await cluster.pgbench(['--initialize', '--quiet', `--scale=${scale}`, `--fillfactor=${fillfactor}`])
    await makeParagraphs(cluster)
    await makeNotes(cluster, Math.ceil(bytes / 2 / NOTE_BYTES), fillfactor)
    await cluster.sql('DROP TABLE paragraph')
    await cluster.sql('VACUUM (FREEZE, ANALYZE)')
  }
}

/** Tables with a primary key and three rows: two files each. */
export function smallTables(count: number): Fill {
  return async (cluster) => {
    await cluster.sql(`
      DO $$ BEGIN
        FOR i IN 1..${count} LOOP
          EXECUTE format('CREATE TABLE small_%s (id int PRIMARY KEY, name varchar(40) NOT NULL)', i);
          EXECUTE format('INSERT INTO small_%s SELECT n, md5(n::text || %s) FROM generate_series(1, 3) n', i, i);
          IF i % ${TABLES_IN_TRANSACTION} = 0 THEN COMMIT; END IF;
        END LOOP;
      END $$`)
  }
}

/** Words with the frequencies of real text: from the descriptions that the server has of its own functions. */
export async function makeParagraphs(cluster: Cluster): Promise<void> {
  await cluster.sql(`
    SELECT setseed(0.42);
    CREATE TABLE word AS
      SELECT row_number() OVER () AS id, word
      FROM (SELECT regexp_split_to_table(description, '\\s+') AS word FROM pg_description ORDER BY objoid, objsubid) w;
    CREATE TABLE paragraph AS
      SELECT paragraph AS id, string_agg(word, ' ') AS text
      FROM (
        SELECT paragraph, 1 + floor(random() * (SELECT count(*) FROM word))::bigint AS id
        FROM generate_series(0, ${PARAGRAPHS} - 1) paragraph, generate_series(1, ${WORDS_IN_PARAGRAPH})
        OFFSET 0
      ) picked JOIN word USING (id)
      GROUP BY paragraph;
    DROP TABLE word;
    ANALYZE paragraph`)
}

/** Needs the paragraphs. */
export async function makeNotes(cluster: Cluster, rows: number, fillfactor = 100): Promise<void> {
  await cluster.sql(`
    CREATE TABLE note WITH (fillfactor = ${fillfactor}) AS ${notes(1, rows)};
    ALTER TABLE note ADD PRIMARY KEY (id);
    CREATE INDEX ON note (account, written_at);
    CREATE INDEX ON note (tag)`)
}

/** A query for rows of `note`. */
export function notes(first: number, count: number): string {
  return `
    SELECT n.id, n.account, n.written_at, n.amount, n.score, n.tag, paragraph.text
    FROM (
      SELECT id, floor(random() * 100000)::int AS account,
        timestamptz '2020-01-01 00:00Z' + random() * interval '6 years' AS written_at,
        round((random() * 10000)::numeric, 2) AS amount, random() AS score, gen_random_uuid() AS tag
      FROM generate_series(${first}::bigint, ${first + count - 1}::bigint) id
      OFFSET 0
    ) n JOIN paragraph ON paragraph.id = n.id % ${PARAGRAPHS}`
}

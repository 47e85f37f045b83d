import { beforeEach, expect, test } from 'vitest'
import { fingerprintsOf, type TableFingerprint } from '../../src/logical/fingerprint.ts'
import { compareFingerprints } from '../../src/logical/fingerprint-compare.ts'
import { Server } from '../../src/postgres/server.ts'
import { Cluster } from '../lab/cluster.ts'
import { requireServer } from '../lab/programs.ts'

beforeEach((context) => void requireServer(context))

const { signal } = new AbortController()

async function fingerprints(cluster: Cluster, database: string, user = cluster.user, snapshot?: string) {
  const { host, port } = cluster
  await using server = await Server.connect({ host, port, user, database })
  const options = { signal, ...(snapshot !== undefined && { snapshot }) }
  return await Array.fromAsync(fingerprintsOf(server, options))
}

const ofTable = (all: TableFingerprint[], name: string) => all.find((each) => each.name === name)

/** Values whose text depends on a setting, on the encoding or on the version. */
const DELICATE = `
  CREATE SCHEMA "o'dd ""s";
  CREATE TABLE "o'dd ""s"."t able" (
    id int, "na me" text, price money, moment timestamptz, day date, span interval, bytes bytea,
    ratio float8, small real, doc jsonb, of regclass, fixed char(9), generated int GENERATED ALWAYS AS (id * 2) STORED);
  INSERT INTO "o'dd ""s"."t able" VALUES
    (1, 'Grüße', '1234.50', '2026-11-20 17:29:00.123456+00', '2026-02-01', '1 year -2 days 03:04:05.6', '\\x00ff5c', 0.1 + 0.2::float8,
     0.1, '{"b": 1, "a": [null]}', 'pg_catalog.pg_class', 'x'),
    (2, NULL, NULL, 'infinity', NULL, NULL, '', 'NaN', '-0', 'null', NULL, '');
  CREATE TABLE parent (a int, c int);
  CREATE TABLE child (b int) INHERITS (parent);
  INSERT INTO parent VALUES (1, 3);
  INSERT INTO child (a, b, c) VALUES (1, 2, 3);
  CREATE TABLE parted (k int) PARTITION BY RANGE (k);
  CREATE TABLE part_one PARTITION OF parted FOR VALUES FROM (0) TO (10);
  INSERT INTO parted VALUES (1), (1), (2);
  CREATE TABLE empty ();
  CREATE SEQUENCE counter;
  SELECT nextval('counter');
  CREATE MATERIALIZED VIEW seen AS SELECT * FROM parted;
  CREATE MATERIALIZED VIEW unseen AS SELECT * FROM parted WITH NO DATA;
  SELECT lo_from_bytea(0, '\\x0102') AS one, lo_from_bytea(0, '') AS two;`

test('the same rows have the same sums in another encoding, locale and order, and under other settings', async () => {
  await using cluster = await Cluster.create()
  await cluster.sql(`CREATE DATABASE one TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'`)
  await cluster.sql(`CREATE DATABASE other TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'`)
  for (const database of ['one', 'other']) await cluster.sql(DELICATE, { database })
  await cluster.sql(
    `ALTER DATABASE other SET datestyle = 'German, DMY'; ALTER DATABASE other SET timezone = 'Asia/Tokyo';
     ALTER DATABASE other SET extra_float_digits = -5; ALTER DATABASE other SET bytea_output = 'escape';
     ALTER DATABASE other SET intervalstyle = 'iso_8601'; ALTER DATABASE other SET search_path = pg_catalog, public;
     ALTER DATABASE other SET quote_all_identifiers = on`,
  )
  // Rows that lie in another order, and columns too.
  await cluster.sql(
    `UPDATE "o'dd ""s"."t able" SET id = id WHERE id = 1; DROP TABLE public.child;
     CREATE TABLE public.child (c int, b int, a int); INSERT INTO public.child (a, b, c) VALUES (1, 2, 3);
     SELECT lo_unlink(oid) FROM pg_largeobject_metadata`,
    { database: 'other' },
  )
  const objects = await cluster.sql<{ oid: number; bytes: string }>(
    `SELECT oid, encode(lo_get(oid), 'hex') AS bytes FROM pg_largeobject_metadata`,
    { database: 'one' },
  )
  for (const { oid, bytes } of objects)
    await cluster.sql(`SELECT lo_from_bytea(${oid}, '\\x${bytes}00')`, { database: 'other' })
  const one = await fingerprints(cluster, 'one')
  expect(compareFingerprints(one, await fingerprints(cluster, 'other'))).toEqual([
    expect.objectContaining({ kind: 'unknown', recorded: expect.objectContaining({ name: 'unseen' }) }),
  ])
  expect(one.map(({ kind, name, rows }) => [kind, name, rows])).toEqual([
    ['table', 't able', 2],
    ['table', 'child', 1],
    ['sequence', 'counter', undefined],
    ['table', 'empty', 0],
    ['table', 'parent', 1],
    ['table', 'part_one', 3],
    ['materialized view', 'seen', 3],
    ['materialized view', 'unseen', undefined],
    ['large objects', undefined, 2],
  ])
})

test('a row that is other, missing or there twice is noticed', async () => {
  await using cluster = await Cluster.create()
  await cluster.sql(`CREATE TABLE t AS SELECT g AS i, g::text AS x FROM generate_series(1, 100) AS g`)
  const sums = new Set<string>()
  for (const change of [
    'SELECT',
    `UPDATE t SET x = x || ' ' WHERE i = 7`,
    `UPDATE t SET x = NULL WHERE i = 7`,
    `UPDATE t SET x = '' WHERE i = 7`,
    'DELETE FROM t WHERE i = 7',
    'INSERT INTO t SELECT * FROM t WHERE i = 8',
    'INSERT INTO t SELECT * FROM t WHERE i = 8',
  ]) {
    await cluster.sql(change)
    const { rows, content } = ofTable(await fingerprints(cluster, 'postgres'), 't')!
    sums.add(`${rows} ${content}`)
  }
  expect(sums.size).toBe(7)
})

test('rows are counted as of the snapshot, and what cannot be read says why', async () => {
  await using cluster = await Cluster.create()
  await cluster.sql(
    `CREATE TABLE t (i int); INSERT INTO t VALUES (1); CREATE TABLE secret (i int);
     CREATE TABLE policed (i int); ALTER TABLE policed ENABLE ROW LEVEL SECURITY;
     CREATE TABLE odd (i int); CREATE ROLE plain LOGIN;
     GRANT SELECT ON t, policed TO plain`,
  )
  await using session = await cluster.connect()
  await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
  const { rows } = await session.query<{ id: string }>('SELECT pg_export_snapshot() AS id')
  await cluster.sql('INSERT INTO t VALUES (2)')
  const before = await fingerprints(cluster, 'postgres', 'plain', rows[0]!.id)
  expect(ofTable(before, 't')).toMatchObject({ rows: 1 })
  expect(ofTable(before, 'secret')).toMatchObject({ fault: 'the role may not read it' })
  expect(ofTable(before, 'policed')).toMatchObject({ fault: expect.stringMatching(/^row security hides/) })
  expect(ofTable(await fingerprints(cluster, 'postgres'), 't')).toMatchObject({ rows: 2 })
})

test('a table that the server cannot read is told of, and the others are counted', async () => {
  await using cluster = await Cluster.create()
  await cluster.sql(`CREATE TABLE a (i int); CREATE TABLE b (i int); INSERT INTO b VALUES (1)`)
  await using session = await cluster.connect()
  await session.query('BEGIN; LOCK TABLE a')
  const { host, port, user } = cluster
  await using server = await Server.connect({ host, port, user, database: 'postgres' })
  const all = await Array.fromAsync(fingerprintsOf(server, { signal, lockWaitMs: 100 }))
  expect(ofTable(all, 'a')).toMatchObject({ fault: expect.stringContaining('lock timeout') })
  expect(ofTable(all, 'b')).toMatchObject({ rows: 1 })
})

test('a signal ends a statement that takes long', async () => {
  await using cluster = await Cluster.create()
  await cluster.sql('CREATE TABLE a (i int)')
  await using session = await cluster.connect()
  await session.query('BEGIN; LOCK TABLE a')
  const stop = new AbortController()
  const { host, port, user } = cluster
  await using server = await Server.connect({ host, port, user, database: 'postgres' })
  const counting = Array.fromAsync(fingerprintsOf(server, { signal: stop.signal }))
  counting.catch(() => {})
  await cluster.waitUntil(`EXISTS (SELECT FROM pg_locks WHERE NOT granted)`)
  stop.abort(new Error('enough'))
  await expect(counting).rejects.toThrow('enough')
})

test('what was truncated, rewritten or dropped since the snapshot is told, and nothing is while it is counted', async () => {
  await using cluster = await Cluster.create()
  const names = ['a', 'cut', 'rewritten', 'dropped', 'z']
  for (const name of names) await cluster.sql(`CREATE TABLE ${name} AS SELECT 1 AS i`)
  await cluster.sql('CREATE MATERIALIZED VIEW seen AS SELECT * FROM a')
  await using session = await cluster.connect()
  await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
  const { rows } = await session.query<{ id: string }>('SELECT pg_export_snapshot() AS id')
  await cluster.sql('TRUNCATE cut')
  await cluster.sql('ALTER TABLE rewritten ALTER i TYPE bigint')
  await cluster.sql('DROP TABLE dropped')
  const { host, port, user } = cluster
  await using server = await Server.connect({ host, port, user, database: 'postgres' })
  const counting = fingerprintsOf(server, { signal, snapshot: rows[0]!.id })
  const { value: first } = await counting.next()
  // The others are held as soon as the first one is counted.
  const held = await cluster.sql<{ name: string }>(
    `SELECT relation::regclass::text AS name FROM pg_locks
      WHERE mode = 'AccessShareLock' AND relation IN ('a'::regclass, 'z'::regclass, 'seen'::regclass)`,
  )
  expect(new Set(held.map(({ name }) => name))).toEqual(new Set(['a', 'z', 'seen']))
  const all = [first as TableFingerprint, ...(await Array.fromAsync(counting))]
  for (const name of ['a', 'z', 'seen']) expect(ofTable(all, name)).toMatchObject({ rows: 1 })
  for (const name of ['cut', 'rewritten'])
    expect(ofTable(all, name)).toMatchObject({ fault: 'it was truncated or rewritten meanwhile' })
  expect(ofTable(all, 'dropped')).toMatchObject({ fault: expect.stringContaining('does not exist') })
})

import { chmod, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import type { LogicalRecord } from '../../src/catalog/logical-record.ts'
import { answerOf, failureOf, labFolder } from '../backup/commands.ts'
import { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { ENCODED, makeManyDatabases } from './many-databases.ts'
import { sortedDump, targetOf } from './restore-lab.ts'

beforeEach((context) => void requireServer(context))

interface Answer {
  errors: number
  databases: { into: string; leftOut: string[]; errors: { samples: string[] } }[]
  plan: { warnings: string[]; databases: { name: string; way: string }[] }
}

const take = (lab: Lab, args: string[] = []) =>
  answerOf<LogicalRecord>(lab, ['backup', '--method', 'logical', ...args])

describe('a logical backup comes back', () => {
  test('a cluster with all sorts of things goes out and into an empty server, and is the same', async () => {
    await using lab = await Lab.create({
      archive: false,
      encrypted: true,
      settings: { wal_level: 'logical' },
    })
    await makeManyDatabases(lab.cluster)
    const { id, databases } = await take(lab)
    expect(databases.length).toBeGreaterThanOrEqual(10)
    await using target = await Cluster.create({
      within: lab.scratch,
      name: 'target',
      settings: { wal_level: 'logical' },
    })
    const answer = await answerOf<Answer>(lab, ['restore', id, ...targetOf(target)])
    expect(answer.errors).toBe(0)
    expect(await sortedDump(target)).toEqual(await sortedDump(lab.cluster))
    const [row] = await target.sql<{ settings: string[]; comment: string; stats: string }>(
      `SELECT setconfig AS settings, shobj_description(setdatabase, 'pg_database') AS comment
         FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = 'postgres' AND setrole = 0`,
    )
    expect(row).toEqual({ settings: ['work_mem=5MB'], comment: 'the first one' })
    const [analyzed] = await target.sql<{ n: number }>(
      `SELECT count(*)::int AS n FROM pg_stats WHERE tablename = 'customer'`,
      { database: 'a b' },
    )
    expect(analyzed!.n).toBeGreaterThan(0)
    for (const { name, encoding } of ENCODED) {
      const [found] = await target.sql<{ e: string }>(
        `SELECT pg_encoding_to_char(encoding) AS e FROM pg_database WHERE datname = '${name}'`,
      )
      expect(found!.e).toBe(encoding)
    }
  })

  test('a single table comes back next to the living one, in another database, by one command', async () => {
    await using lab = await Lab.create({ archive: false })
    await lab.cluster.sql('CREATE DATABASE shop')
    await lab.cluster.sql(
      `CREATE SCHEMA sales;
       CREATE TABLE sales.customer (id int PRIMARY KEY);
       CREATE TABLE sales."order" (id serial PRIMARY KEY, customer int REFERENCES sales.customer, day date);
       CREATE INDEX by_day ON sales."order" (day);
       INSERT INTO sales.customer SELECT generate_series(1, 3);
       INSERT INTO sales."order" (customer, day) SELECT 1 + n % 3, date '2026-11-01' + n FROM generate_series(1, 100) n`,
      { database: 'shop' },
    )
    const { id } = await take(lab)
    await lab.cluster.sql('DELETE FROM sales."order" WHERE id > 10', { database: 'shop' })
    const one = ['restore', id, '--database', 'shop', '--table', 'sales.order', '--into', 'before']
    const answer = await answerOf<Answer>(lab, one)
    expect(answer.errors).toBe(0)
    expect(answer.databases[0]!.leftOut).toEqual(['FK CONSTRAINT sales.order order_customer_fkey'])
    const count = async (database: string) =>
      (await lab.cluster.sql<{ n: number }>('SELECT count(*)::int AS n FROM sales."order"', { database }))[0]!
        .n
    expect([await count('before'), await count('shop')]).toEqual([100, 10])
    const facts = await lab.cluster.sql(
      `INSERT INTO sales."order" (day) VALUES (now()) RETURNING id,
         (SELECT count(*)::int FROM pg_indexes WHERE schemaname = 'sales') AS indexes,
         to_regclass('sales.customer') IS NULL AS alone`,
      { database: 'before' },
    )
    expect(facts).toEqual([{ id: 101, indexes: 2, alone: true }])
    // Into a database that has data: not without being told to, and never over what exists.
    expect(await failureOf(lab, one)).toMatchObject({
      kind: 'refused',
      message: 'database "before" has data',
    })
    expect(await failureOf(lab, [...one, '--force'])).toMatchObject({ kind: 'failed' })
    expect(await count('before')).toBe(101)
    await answerOf<Answer>(lab, [...one, '--force', '--clean'])
    expect(await count('before')).toBe(100)
  })
})

describe('a restore that cannot be whole', () => {
  /** A database of some MiB, so that a damage can lie behind the list of contents. */
  async function shopOf(lab: Lab): Promise<LogicalRecord> {
    await lab.cluster.sql('CREATE DATABASE shop')
    await lab.cluster.sql(
      `CREATE TABLE t AS SELECT n, md5(n::text) AS x, md5((n + 1)::text) AS y FROM generate_series(1, 60000) n`,
      { database: 'shop' },
    )
    return take(lab, ['--database', 'shop'])
  }

  test('a damaged dump says which database is restored in half', async () => {
    await using lab = await Lab.create({ archive: false })
    const { id, objects } = await shopOf(lab)
    const { name } = objects.find(({ kind }) => kind === 'dump')!
    await spoil(join(lab.repository, 'main/backups', id, name))
    const failure = await failureOf(lab, ['restore', id, '--into', 'other'])
    expect(failure).toMatchObject({ kind: 'damaged' })
    expect(failure.message).toContain('database "other" is restored only in half')
    expect(failure.hint).toContain('DROP DATABASE "other"')
  })

  test('what is refused changes nothing, and a plan neither', async () => {
    await using lab = await Lab.create({ archive: false })
    const { id } = await shopOf(lab)
    const databases = async () =>
      (await lab.cluster.sql<{ name: string }>('SELECT datname AS name FROM pg_database')).map(
        ({ name }) => name,
      )
    const before = [await databases(), await sortedDump(lab.cluster)]
    const refused: [string[], string][] = [
      [[], 'database "shop" has data'],
      [['--create'], 'there is a database "shop" already'],
      [['--create', '--clean'], 'has data, and would be dropped'],
      [['--into', 'new', '--data-only'], 'there is no database "new"'],
      [['--role', 'nobody', '--into', 'new'], 'no role "nobody", which --role names'],
      [['--tablespace', 'fast=/new'], 'which --tablespace names'],
      [['--map-role', 'ana=postgres'], 'the backup has no role "ana"'],
      [['--into', 'new', '--exclude-schema', 'pubilc'], 'no schema "pubilc"'],
      [['--into', 'new', '--jobs', '2'], 'several sessions can restore a dump only from a file'],
      [['--time', '2026-11-20 17:29'], '--time is for physical backups only'],
    ]
    for (const [options, message] of refused)
      expect((await failureOf(lab, ['restore', id, ...options])).message).toContain(message)
    expect((await failureOf(lab, ['restore', '--into', 'new'])).message).toContain('logical backups only')
    await answerOf(lab, ['restore', id, '--into', 'new', '--dry-run'])
    expect([await databases(), await sortedDump(lab.cluster)]).toEqual(before)
  })

  test('whom all is going to belong to gets the database as well', async () => {
    await using lab = await Lab.create({ archive: false })
    const { id } = await shopOf(lab)
    // Up to 14 everybody may create things in the schema public.
    await lab.cluster.sql('CREATE ROLE berta; REVOKE CREATE ON SCHEMA public FROM PUBLIC', {
      database: 'template1',
    })
    const to = ['--no-owner', '--role', 'berta', '--create']
    const answer = await answerOf<Answer>(lab, ['restore', id, '--database', 'shop', '--into', 'hers', ...to])
    expect(answer.errors).toBe(0)
    const [owners] = await lab.cluster.sql(
      `SELECT (SELECT datdba::regrole::text FROM pg_database WHERE datname = 'hers') AS database,
              (SELECT relowner::regrole::text FROM pg_class WHERE relname = 't') AS "table"`,
      { database: 'hers' },
    )
    expect(owners).toEqual({ database: 'berta', table: 'berta' })
  })

  test('several sessions restore from a staged file, which is gone afterwards', async () => {
    await using lab = await Lab.create({ archive: false })
    const { id } = await shopOf(lab)
    const staging = await labFolder(join(lab.scratch.path, 'staging'))
    const staged = ['restore', id, '--into', 'new', '--jobs', '2', '--staging', staging]
    await answerOf(lab, staged)
    expect(await readdir(staging)).toEqual([])
    const rows = await lab.cluster.sql('SELECT count(*)::int AS n FROM t', { database: 'new' })
    expect(rows).toEqual([{ n: 60_000 }])
    await answerOf(lab, [...staged, '--create', '--clean', '--force'])
  })

  test('a dump of several sessions is unpacked, and comes back', async () => {
    await using lab = await Lab.create({ archive: false })
    const staging = await labFolder(join(lab.scratch.path, 'staging'))
    await lab.cluster.sql('CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n')
    const { id, objects } = await take(lab, ['--jobs', '2', '--staging', staging])
    expect(objects.find(({ kind }) => kind === 'dump')).toMatchObject({ archive: 'directory' })
    expect((await failureOf(lab, ['restore', id, '--into', 'new'])).message).toContain('has to be unpacked')
    await answerOf(lab, ['restore', id, '--into', 'new', '--staging', staging, '--table', 't'])
    expect(await readdir(staging)).toEqual([])
    const rows = await lab.cluster.sql('SELECT count(*)::int AS n FROM t', { database: 'new' })
    expect(rows).toEqual([{ n: 1000 }])
  })
})

/** Changes a byte near the end: behind the list of contents. */
async function spoil(path: string): Promise<void> {
  const bytes = await readFile(path)
  const at = bytes.length - 1000
  bytes[at] = bytes[at]! ^ 0xff
  await chmod(path, 0o600)
  await writeFile(path, bytes)
}

describe('on another server', () => {
  test('roles stand for others, and rows stay as they are', async () => {
    await using lab = await Lab.create({ archive: false })
    await lab.cluster.sql('CREATE ROLE anna; CREATE ROLE reader')
    await lab.cluster.sql('CREATE DATABASE shop OWNER anna')
    await lab.cluster.sql(
      `CREATE TABLE t (a text);
       ALTER TABLE t OWNER TO anna;
       GRANT SELECT ON t TO reader;
       INSERT INTO t VALUES (E'\\nALTER TABLE t OWNER TO anna;\\n')`,
      { database: 'shop' },
    )
    const { id } = await take(lab)
    await using target = await Cluster.create({ within: lab.scratch, name: 'target' })
    const restore = ['restore', id, '--database', 'shop', ...targetOf(target), '--map-role', 'anna=berta']
    expect(await failureOf(lab, restore)).toMatchObject({
      kind: 'refused',
      message: expect.stringContaining('"berta"'),
    })
    await target.sql('CREATE ROLE berta; CREATE ROLE reader')
    expect(await answerOf<Answer>(lab, restore)).toMatchObject({ errors: 0 })
    const facts = await target.sql(
      `SELECT a, tableowner AS owner, has_table_privilege('reader', 't', 'SELECT') AS reads,
              pg_get_userbyid(datdba) AS "databaseOwner"
         FROM t, pg_tables, pg_database WHERE tablename = 't' AND datname = current_database()`,
      { database: 'shop' },
    )
    expect(facts).toEqual([
      { a: '\nALTER TABLE t OWNER TO anna;\n', owner: 'berta', reads: true, databaseOwner: 'berta' },
    ])
  })

  test('all sorts of things get other roles, by several sessions, and a table comes with its partitions', async () => {
    await using lab = await Lab.create({ archive: false, settings: { wal_level: 'logical' } })
    await makeManyDatabases(lab.cluster)
    const { id } = await take(lab)
    const staging = await labFolder(join(lab.scratch.path, 'staging'))
    await using target = await Cluster.create({
      within: lab.scratch,
      name: 'target',
      settings: { wal_level: 'logical' },
    })
    await target.sql('CREATE ROLE berta')
    const mapped = ['--map-role', 'anna=berta', '--jobs', '2', '--staging', staging]
    expect(await answerOf<Answer>(lab, ['restore', id, ...targetOf(target), ...mapped])).toMatchObject({
      errors: 0,
    })
    const facts = await target.sql(
      `SELECT lomowner::regrole::text AS "largeOwner", lomacl::text LIKE '%readers=r/berta%' AS "largeRead",
              to_regrole('anna') IS NULL AS gone, (SELECT n::int FROM counted) AS counted, polroles::text LIKE '%' || 'berta'::regrole::oid || '%' AS policy
         FROM pg_largeobject_metadata, pg_policy`,
      { database: 'a b' },
    )
    expect(facts).toEqual([{ largeOwner: 'berta', largeRead: true, gone: true, counted: 50, policy: true }])
    await answerOf<Answer>(lab, ['restore', id, '--database', 'a b', '--table', 'part', '--into', 'parts'])
    expect(await lab.cluster.sql('SELECT id FROM part ORDER BY id', { database: 'parts' })).toEqual([
      { id: 1 },
      { id: 2 },
    ])
  })

  test('one script comes back, and what exists is not made again', async () => {
    await using lab = await Lab.create({ archive: false })
    await lab.cluster.sql('CREATE ROLE anna')
    await lab.cluster.sql('CREATE DATABASE shop OWNER anna')
    await lab.cluster.sql('CREATE TABLE t AS SELECT 1 AS n', { database: 'shop' })
    const { id } = await take(lab, ['--whole'])
    expect(await failureOf(lab, ['restore', id])).toMatchObject({ kind: 'refused' })
    for (const option of [['--no-globals'], ['--tablespace', 'a=/b'], ['--staging', '/tmp']])
      expect(await failureOf(lab, ['restore', id, ...option])).toMatchObject({ kind: 'usage' })
    await using target = await Cluster.create({ within: lab.scratch, name: 'target' })
    expect(await answerOf<Answer>(lab, ['restore', id, ...targetOf(target)])).toMatchObject({ errors: 0 })
    expect(await sortedDump(target)).toEqual(await sortedDump(lab.cluster))
    // It ends at the first thing that exists, here a database; psql would take rows behind it for statements.
    expect(await failureOf(lab, ['restore', id, ...targetOf(target), '--force'])).toMatchObject({
      kind: 'failed',
      message: expect.stringContaining('already exists'),
    })
    expect(await target.sql('SELECT * FROM t', { database: 'shop' })).toEqual([{ n: 1 }])
  })
})

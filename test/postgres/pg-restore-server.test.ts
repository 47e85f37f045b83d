import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { pgDump, pgDumpDirectory } from '../../src/postgres/pg-dump.ts'
import {
  type ArchiveInput,
  ArchiveListing,
  archiveScript,
  listArchive,
  pgRestore,
  type RestoreOptions,
} from '../../src/postgres/pg-restore.ts'
import { Cluster } from '../lab/cluster.ts'
import { requireServer } from '../lab/programs.ts'
import { env, failure, LARGE_TABLE, ODD_NAMES, placeOf, programOf, quoted } from './dump-lab.ts'

const { signal } = new AbortController()
const quiet = { signal, onWarning: () => {} }

function dump(cluster: Cluster, database = 'postgres', compress = 'none') {
  const connection = placeOf(cluster, database)
  return pgDump(programOf(cluster, 'pg_dump'), env, { connection, format: 'custom', compress, ...quiet })
}

const whole = async (cluster: Cluster, database = 'postgres') =>
  Buffer.concat(await Array.fromAsync(dump(cluster, database)))

function restore(
  cluster: Cluster,
  input: ArchiveInput,
  options: Partial<RestoreOptions> & { into?: string } = {},
) {
  const { into, ...rest } = options
  const connection = placeOf(cluster, into ?? 'target')
  return pgRestore(
    programOf(cluster, 'pg_restore'),
    env,
    { connection, signal, onMessage: () => {}, ...rest },
    input,
  )
}

async function* inPieces(bytes: Buffer, size = 64 * 1024) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}

const OBJECTS = `
  CREATE SCHEMA "Ödd schema";
  CREATE TABLE "Ödd schema"."two words" (id int PRIMARY KEY, parent int REFERENCES "Ödd schema"."two words");
  CREATE TABLE plain (id serial, owner text);
  COMMENT ON TABLE plain IS 'x';
  CREATE MATERIALIZED VIEW seen AS SELECT 1 AS id;
  CREATE POLICY p ON plain USING (true);
  ALTER TABLE plain ENABLE ROW LEVEL SECURITY;
  CREATE TABLE "new
line" ();
  CREATE FUNCTION f(a integer, b text) RETURNS int LANGUAGE sql AS 'SELECT 1';
  ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
  CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION g();
  SELECT lo_create(4711);`

async function withObjects(cluster: Cluster) {
  await cluster.sql(
    `CREATE FUNCTION g() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; ${OBJECTS} ${LARGE_TABLE}`,
  )
  await cluster.sql('ALTER DATABASE postgres SET work_mem = 1234')
}

describe('the list of an archive', () => {
  test('has what the archive holds', async (context) => {
    const { version, major } = requireServer(context)
    await using cluster = await Cluster.create()
    await withObjects(cluster)
    const bytes = await whole(cluster)
    const file = join(cluster.host, 'archive')
    await writeFile(file, bytes)
    const program = programOf(cluster, 'pg_restore')
    const { header, entries } = await listArchive(program, env, { file })
    expect(header).toMatchObject({
      database: 'postgres',
      format: 'CUSTOM',
      compression: major >= 16 ? 'none' : '0',
      formatVersion: expect.stringMatching(/^1\.\d+-0$/),
      createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\d /),
      dumpVersion: expect.stringContaining(version),
      serverVersion: expect.stringContaining(version),
    })
    // Those for the session are never listed: encoding, strings and search path.
    expect(entries.length).toBe(header.entries - 3)
    const some = entries.map(({ type, schema, name, owner }) => [type, schema, name, owner])
    const owner = 'postgres'
    for (const entry of [
      ['DATABASE', undefined, 'postgres', owner],
      ['DATABASE PROPERTIES', undefined, 'postgres', owner],
      ['SCHEMA', undefined, 'Ödd schema', owner],
      ['TABLE', 'Ödd schema', 'two words', owner],
      ['TABLE DATA', 'Ödd schema', 'two words', owner],
      ['CONSTRAINT', 'Ödd schema', 'two words two words_pkey', owner],
      ['FK CONSTRAINT', 'Ödd schema', 'two words two words_parent_fkey', owner],
      ['TABLE', 'public', 'plain', owner],
      ['SEQUENCE SET', 'public', 'plain_id_seq', owner],
      ['SEQUENCE OWNED BY', 'public', 'plain_id_seq', owner],
      ['COMMENT', 'public', 'TABLE plain', owner],
      ['MATERIALIZED VIEW', 'public', 'seen', owner],
      ['MATERIALIZED VIEW DATA', 'public', 'seen', owner],
      ['POLICY', 'public', 'plain p', owner],
      ['ROW SECURITY', 'public', 'plain', owner],
      ['TABLE', 'public', 'new line', owner],
      ['FUNCTION', 'public', 'f(integer, text)', owner],
      ['DEFAULT ACL', undefined, 'DEFAULT PRIVILEGES FOR TABLES', owner],
      ['EVENT TRIGGER', undefined, 'e', owner],
    ]) {
      expect(some).toContainEqual(entry)
    }
    expect(await listArchive(program, env, inPieces(bytes))).toEqual({ header, entries })
    const directory = join(cluster.host, 'folder')
    const connection = placeOf(cluster)
    await pgDumpDirectory(programOf(cluster, 'pg_dump'), env, { connection, directory, jobs: 2, ...quiet })
    const { entries: others } = await listArchive(program, env, { file: directory })
    expect(others.map(({ type, name }) => [type, name]).sort()).toEqual(
      entries.map(({ type, name }) => [type, name]).sort(),
    )
  })

  test('is made while an archive passes by, and holds nothing up', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create()
    await withObjects(cluster)
    await using listing = new ArchiveListing(programOf(cluster, 'pg_restore'), env)
    const passed = Buffer.concat(await Array.fromAsync(listing.tee(dump(cluster))))
    const list = await listing.result()
    expect(list.entries.map(({ type }) => type)).toContain('FK CONSTRAINT')
    const again = await listArchive(programOf(cluster, 'pg_restore'), env, inPieces(passed))
    expect(again).toEqual(list)
  })

  test('ends with what the source throws', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create()
    await using listing = new ArchiveListing(programOf(cluster, 'pg_restore'), env)
    async function* broken(): AsyncGenerator<Buffer> {
      yield Buffer.from('PGDMP')
      throw new Error('the source broke')
    }
    await expect(Array.fromAsync(listing.tee(broken()))).rejects.toThrow('the source broke')
  })

  test.each([
    ['nothing', () => Buffer.alloc(0)],
    ['something else', () => Buffer.from('-- a script\n'.repeat(100))],
    ['half of its list', (bytes: Buffer) => bytes.subarray(0, 1000)],
    [
      'a list with other bytes',
      (bytes: Buffer) => Buffer.concat([bytes.subarray(0, 600), Buffer.alloc(5000, 0xff)]),
    ],
  ])('says that an archive is damaged that is %s', async (_what, spoil) => {
    await using cluster = await Cluster.create()
    const pieces = inPieces(spoil(await whole(cluster)))
    const list = listArchive(programOf(cluster, 'pg_restore'), env, pieces)
    await expect(list).rejects.toMatchObject(
      failure('damaged', /^pg_restore --list cannot read the archive: /),
    )
  })
})

describe('a restore', () => {
  test('makes a database of each odd name', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create()
    for (const name of ODD_NAMES) {
      await cluster.sql(`CREATE DATABASE ${quoted(name)}`)
      await cluster.sql('CREATE TABLE mine AS SELECT current_database() AS name', { database: name })
      const bytes = await whole(cluster, name)
      await cluster.sql(`DROP DATABASE ${quoted(name)}`)
      const options = { into: 'postgres', create: true }
      expect(await restore(cluster, inPieces(bytes), options)).toEqual({ count: 0, samples: [] })
      expect(await cluster.sql('SELECT * FROM mine', { database: name })).toEqual([{ name }])
      const again = await restore(cluster, inPieces(bytes), { into: name, clean: true })
      expect(again).toEqual({ count: 0, samples: [] })
    }
  })

  test('counts what the server refuses, and goes on', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create({ settings: { lc_messages: 'C' } })
    await cluster.sql(
      'CREATE TABLE one AS SELECT 1 AS id; CREATE TABLE two AS SELECT 2 AS id; CREATE DATABASE target',
    )
    await cluster.sql('CREATE TABLE one (other text, id text CHECK (false))', { database: 'target' })
    const bytes = await whole(cluster)
    const messages: string[] = []
    const onMessage = (text: string) => messages.push(text)
    const errors = await restore(cluster, inPieces(bytes), { onMessage })
    expect(errors.count).toBe(2)
    expect(errors.samples).toEqual([
      expect.stringMatching(
        /relation "one" already exists Command was: CREATE TABLE .*\(entry \d+; 1259 \d+ TABLE one postgres\)/,
      ),
      expect.stringMatching(/COPY failed for table "one"/),
    ])
    expect(messages).toEqual(errors.samples)
    expect(await cluster.sql('SELECT * FROM two', { database: 'target' })).toEqual([{ id: 2 }])
    for (const how of [{ exitOnError: true }, { singleTransaction: true }]) {
      await expect(restore(cluster, inPieces(bytes), how)).rejects.toMatchObject(
        failure('failed', /^pg_restore into "target" failed: .*already exists/),
      )
    }
  })

  test('takes what was selected, from a file by several sessions, and without owners', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create()
    await cluster.sql(
      'CREATE TABLE one AS SELECT 1 AS id; CREATE SCHEMA s; CREATE TABLE s.two AS SELECT 2 AS id',
    )
    await cluster.sql('CREATE ROLE gone; ALTER TABLE one OWNER TO gone; CREATE ROLE taker LOGIN CREATEDB')
    const [file, list] = [join(cluster.host, 'archive'), join(cluster.host, 'list')]
    await writeFile(file, await whole(cluster))
    await cluster.sql('ALTER TABLE one OWNER TO postgres; DROP ROLE gone; CREATE DATABASE target OWNER taker')
    const { entries } = await listArchive(programOf(cluster, 'pg_restore'), env, { file })
    expect((await restore(cluster, { file }, { schemas: ['s'], schemaOnly: true })).count).toBe(1)
    await cluster.sql('CREATE SCHEMA s', { database: 'target' })
    expect(await restore(cluster, { file }, { tables: ['two'], schemas: ['s'] })).toEqual({
      count: 0,
      samples: [],
    })
    await writeFile(
      list,
      entries.flatMap(({ dumpId, name }) => (name === 'one' ? `${dumpId};\n` : [])).join(''),
    )
    const selected = { useList: list, noOwner: true, noPrivileges: true, role: 'taker', jobs: 2 }
    expect(await restore(cluster, { file }, selected)).toEqual({ count: 0, samples: [] })
    const tables = await cluster.sql(
      `SELECT relname, relowner::regrole::text AS owner FROM pg_class WHERE relnamespace IN ('s'::regnamespace, 'public'::regnamespace) ORDER BY 1`,
      { database: 'target' },
    )
    expect(tables).toEqual([
      { relname: 'one', owner: 'taker' },
      { relname: 'two', owner: 'postgres' },
    ])
    const script = archiveScript(
      programOf(cluster, 'pg_restore'),
      env,
      { tables: ['one'], dataOnly: true, signal },
      { file },
    )
    expect(Buffer.concat(await Array.fromAsync(script)).toString()).toMatch(/COPY public\.one .*\n1\n/)
  })

  test('of a damaged archive says so, at whatever place', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create()
    await cluster.sql(`${LARGE_TABLE} CREATE DATABASE target`)
    const bytes = await whole(cluster)
    const cut = bytes.subarray(0, bytes.length / 2)
    const file = join(cluster.host, 'cut')
    await writeFile(file, cut)
    for (const input of [inPieces(cut), { file }]) {
      await expect(restore(cluster, input, { clean: true })).rejects.toMatchObject(
        failure('damaged', /^pg_restore into "target" cannot read the archive: /),
      )
    }
    const script = archiveScript(programOf(cluster, 'pg_restore'), env, { signal }, inPieces(cut))
    await expect(Array.fromAsync(script)).rejects.toMatchObject(failure('damaged', /cannot read the archive/))
    async function* broken() {
      yield* inPieces(cut)
      throw new Error('the source broke')
    }
    await expect(restore(cluster, broken(), { clean: true })).rejects.toThrow('the source broke')
    const half = archiveScript(programOf(cluster, 'pg_restore'), env, { signal }, broken())
    await expect(Array.fromAsync(half)).rejects.toThrow('the source broke')
  })

  test('that loses the server says so, and does not count on', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create()
    await cluster.sql(`${LARGE_TABLE} CREATE DATABASE target`)
    const bytes = await whole(cluster)
    async function* killing() {
      yield* inPieces(bytes.subarray(0, bytes.length / 2))
      await cluster.kill9()
      yield* inPieces(bytes.subarray(bytes.length / 2))
    }
    await expect(restore(cluster, killing())).rejects.toMatchObject(
      failure('connection', /^pg_restore into "target" lost the server/),
    )
    await expect(restore(cluster, inPieces(bytes))).rejects.toMatchObject(
      failure('connection', /cannot connect/),
    )
  })

  test('ends at a signal', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create()
    await cluster.sql(`${LARGE_TABLE} CREATE DATABASE target`)
    const bytes = await whole(cluster)
    const ending = new AbortController()
    async function* aborting() {
      yield* inPieces(bytes.subarray(0, bytes.length / 2))
      ending.abort(new Error('that is enough'))
      yield* inPieces(bytes.subarray(bytes.length / 2))
    }
    await expect(restore(cluster, aborting(), { signal: ending.signal })).rejects.toThrow('that is enough')
    await cluster.waitUntil(`NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgrecall')`)
    expect((await readFile(cluster.logFile)).length).toBeGreaterThan(0)
  })
})

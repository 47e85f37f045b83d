import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { pgDumpDirectory } from '../../src/postgres/pg-dump.ts'
import { ArchiveListing, listArchive } from '../../src/postgres/pg-restore.ts'
import { Cluster } from '../lab/cluster.ts'
import { requireServer } from '../lab/programs.ts'
import {
  archiveOf,
  dumpOf,
  env,
  failure,
  inPieces,
  LARGE_TABLE,
  placeOf,
  programOf,
  quiet,
} from './dump-lab.ts'

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
    const bytes = await archiveOf(cluster)
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
    const passed = Buffer.concat(
      await Array.fromAsync(listing.tee(dumpOf(cluster)), (piece) => Buffer.from(piece)),
    )
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

  test.for<[string, (bytes: Buffer) => Buffer]>([
    ['nothing', () => Buffer.alloc(0)],
    ['something else', () => Buffer.from('-- a script\n'.repeat(100))],
    ['half of its list', (bytes) => bytes.subarray(0, 1000)],
    ['a list with other bytes', (bytes) => Buffer.concat([bytes.subarray(0, 600), Buffer.alloc(5000, 0xff)])],
  ])('says that an archive is damaged that is %s', async ([_what, spoil], context) => {
    requireServer(context)
    await using cluster = await Cluster.create()
    const pieces = inPieces(spoil(await archiveOf(cluster)))
    const list = listArchive(programOf(cluster, 'pg_restore'), env, pieces)
    await expect(list).rejects.toMatchObject(
      failure('damaged', /^pg_restore --list cannot read the archive: /),
    )
  })
})

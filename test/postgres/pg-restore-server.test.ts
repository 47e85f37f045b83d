import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  type ArchiveInput,
  archiveScript,
  listArchive,
  pgRestore,
  type RestoreOptions,
} from '../../src/postgres/pg-restore.ts'
import { Cluster } from '../lab/cluster.ts'
import { requireServer } from '../lab/programs.ts'
import {
  archiveOf,
  env,
  failure,
  inPieces,
  LARGE_TABLE,
  ODD_NAMES,
  placeOf,
  programOf,
  quiet,
  quoted,
} from './dump-lab.ts'

const { signal } = quiet

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

describe('a restore', () => {
  test('makes a database of each odd name', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create()
    for (const name of ODD_NAMES) {
      await cluster.sql(`CREATE DATABASE ${quoted(name)}`)
      await cluster.sql('CREATE TABLE mine AS SELECT current_database() AS name', { database: name })
      const bytes = await archiveOf(cluster, name)
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
    await cluster.sql('CREATE TABLE one AS SELECT 1 AS id; CREATE TABLE two AS SELECT 2 AS id')
    await cluster.sql('CREATE DATABASE target')
    await cluster.sql('CREATE TABLE one (other text, id text CHECK (false))', { database: 'target' })
    const bytes = await archiveOf(cluster)
    const messages: string[] = []
    const onMessage = (text: string) => messages.push(text)
    const errors = await restore(cluster, inPieces(bytes), { onMessage })
    expect(errors.count).toBe(2)
    expect(errors.samples).toEqual([
      expect.stringMatching(/relation "one" already exists Command was: CREATE TABLE public\.one/),
      expect.stringMatching(/COPY failed for table "one"/),
    ])
    expect(messages).toEqual(errors.samples)
    expect(await cluster.sql('SELECT * FROM two', { database: 'target' })).toEqual([{ id: 2 }])
    await expect(restore(cluster, inPieces(bytes), { singleTransaction: true })).rejects.toMatchObject(
      failure('failed', /^pg_restore into "target" failed: .*already exists/),
    )
  })

  test('takes what was selected, from a file by several sessions, and without owners', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create()
    await cluster.sql(
      'CREATE TABLE one AS SELECT 1 AS id; CREATE SCHEMA s; CREATE TABLE s.two AS SELECT 2 AS id',
    )
    await cluster.sql('CREATE ROLE gone; ALTER TABLE one OWNER TO gone; CREATE ROLE taker LOGIN CREATEDB')
    const [file, list] = [join(cluster.host, 'archive'), join(cluster.host, 'list')]
    await writeFile(file, await archiveOf(cluster))
    await cluster.sql('ALTER TABLE one OWNER TO postgres; DROP ROLE gone')
    await cluster.sql('CREATE DATABASE target OWNER taker')
    const { entries } = await listArchive(programOf(cluster, 'pg_restore'), env, { file })
    const choose = (wanted: string) =>
      writeFile(list, entries.flatMap(({ dumpId, name }) => (name === wanted ? `${dumpId};\n` : [])).join(''))
    await choose('two')
    expect((await restore(cluster, { file }, { useList: list, schemaOnly: true })).count).toBe(2)
    await cluster.sql('CREATE SCHEMA s', { database: 'target' })
    expect(await restore(cluster, { file }, { useList: list })).toEqual({ count: 0, samples: [] })
    await choose('one')
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
      { useList: list, dataOnly: true, signal },
      { file },
    )
    expect(Buffer.concat(await Array.fromAsync(script)).toString()).toMatch(/COPY public\.one .*\n1\n/)
  })

  test('of a damaged archive says so, at whatever place', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create()
    await cluster.sql(LARGE_TABLE)
    await cluster.sql('CREATE DATABASE target')
    const bytes = await archiveOf(cluster)
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
    await cluster.sql(LARGE_TABLE)
    await cluster.sql('CREATE DATABASE target')
    const bytes = await archiveOf(cluster)
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
    await cluster.sql(LARGE_TABLE)
    await cluster.sql('CREATE DATABASE target')
    const bytes = await archiveOf(cluster)
    const ending = new AbortController()
    async function* aborting() {
      yield* inPieces(bytes.subarray(0, bytes.length / 2))
      ending.abort(new Error('that is enough'))
      yield* inPieces(bytes.subarray(bytes.length / 2))
    }
    await expect(restore(cluster, aborting(), { signal: ending.signal })).rejects.toThrow('that is enough')
    await cluster.waitUntil(`NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgrecall')`)
  })
})

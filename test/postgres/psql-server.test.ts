import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { pgDumpall } from '../../src/postgres/pg-dump.ts'
import { messageIn, runScript, type ScriptOptions } from '../../src/postgres/psql.ts'
import { splitStatements } from '../../src/postgres/sql-statements.ts'
import { Cluster } from '../lab/cluster.ts'
import { requireServer } from '../lab/programs.ts'
import { giveToLabUser } from '../lab/user.ts'
import { env, failure, placeOf, programOf } from './dump-lab.ts'

const { signal } = new AbortController()

function run(cluster: Cluster, script: string | AsyncIterable<Buffer>, options: Partial<ScriptOptions> = {}) {
  async function* piece() {
    yield Buffer.from(script as string)
  }
  return runScript(
    programOf(cluster, 'psql'),
    env,
    { connection: placeOf(cluster), stopOnError: false, signal, onMessage: () => {}, ...options },
    typeof script === 'string' ? piece() : script,
  )
}

async function globalsOf(cluster: Cluster) {
  const pieces = pgDumpall(programOf(cluster, 'pg_dumpall'), env, {
    connection: placeOf(cluster),
    globalsOnly: true,
    signal,
    onWarning: () => {},
  })
  return Buffer.concat(await Array.fromAsync(pieces)).toString()
}

test('errors are counted, and end it where that is wanted', async (context) => {
  requireServer(context)
  await using cluster = await Cluster.create({ settings: { lc_messages: 'C' } })
  await cluster.sql('CREATE DATABASE "a b"')
  const script = `
    CREATE TABLE IF NOT EXISTS t (id int);
    CREATE TABLE IF NOT EXISTS t (id int);
    SELECT wrong;
    \\connect -reuse-previous=on "dbname='a b'"
    DO $$ BEGIN RAISE WARNING 'mind the gap'; END $$;
    CREATE TABLE u (id int);
    \\nonsense
    COPY u FROM stdin;
x
\\.
    CREATE TABLE v (id int);
`
  const messages: string[] = []
  const errors = await run(cluster, script, { onMessage: (text) => messages.push(text) })
  expect(errors).toEqual({
    count: 3,
    samples: [
      'line 4: column "wrong" does not exist',
      'line 8: invalid command \\nonsense',
      expect.stringMatching(/^line \d+: invalid input syntax for type integer: "x"/),
    ],
  })
  expect(messages).toContain('line 6: mind the gap')
  expect(
    await cluster.sql(`SELECT FROM pg_class WHERE relname IN ('u', 'v')`, { database: 'a b' }),
  ).toHaveLength(2)
  await expect(run(cluster, script, { stopOnError: true })).rejects.toMatchObject(
    failure('failed', /^psql in "postgres" failed: line 4: column "wrong" does not exist/),
  )
  const undone = 'CREATE TABLE w (id int); SELECT wrong;'
  await expect(run(cluster, undone, { stopOnError: true, singleTransaction: true })).rejects.toThrow('wrong')
  expect(await cluster.sql(`SELECT FROM pg_class WHERE relname = 'w'`)).toEqual([])
})

test('its own failures are told by their kinds', async (context) => {
  requireServer(context)
  await using cluster = await Cluster.create({ settings: { lc_messages: 'C' } })
  await expect(run(cluster, 'SELECT 1;', { connection: placeOf(cluster, '=x') })).rejects.toMatchObject(
    failure('connection', /^psql in "=x" cannot connect: database "=x" does not exist/),
  )
  await expect(run(cluster, 'SELECT pg_terminate_backend(pg_backend_pid());')).rejects.toMatchObject(
    failure('connection', /^psql in "postgres" lost the server/),
  )
  await cluster.sql('CREATE ROLE nobody LOGIN')
  const connection = { ...placeOf(cluster), user: 'nobody' }
  await expect(run(cluster, 'CREATE ROLE x;', { connection, stopOnError: true })).rejects.toMatchObject(
    failure('refused', /permission denied to create role/),
  )
})

test('nothing of a script is run behind the place where its source fails', async (context) => {
  requireServer(context)
  await using cluster = await Cluster.create()
  async function* broken() {
    yield Buffer.from('CREATE TABLE whole (id int);\nSELECT pg_sleep(0);\nCREATE TABLE half (id int)')
    throw new Error('the source broke')
  }
  await expect(run(cluster, broken())).rejects.toThrow('the source broke')
  await cluster.waitUntil(`NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgrecall')`)
  expect(await cluster.sql(`SELECT FROM pg_class WHERE relname = 'half'`)).toEqual([])
})

test('the globals of a cluster are split, and make the same in another', async (context) => {
  requireServer(context)
  await using source = await Cluster.create()
  const { major } = source.programs
  const location = join(source.host, 'tab;le; space')
  await mkdir(location)
  await giveToLabUser(location)
  await source.sql(`
    CREATE ROLE "quo""te'; DROP" LOGIN PASSWORD 'x';
    CREATE ROLE granted;
    CREATE ROLE "if" CREATEDB VALID UNTIL '2030-01-01';
    CREATE ROLE "By";
    GRANT "if" TO granted WITH ADMIN OPTION;
    GRANT pg_monitor TO "quo""te'; DROP";
    COMMENT ON ROLE granted IS E'it''s; \\n-- no comment\\\\';
    ALTER ROLE granted SET search_path TO 'a;b', "C";
    ALTER ROLE "By" IN DATABASE postgres SET work_mem = 123`)
  if (major >= 15) await source.sql('GRANT SET ON PARAMETER log_min_messages TO "By"')
  await source.sql(`CREATE TABLESPACE "my space" OWNER granted LOCATION '${location}'`)
  await source.sql(`GRANT CREATE ON TABLESPACE "my space" TO "By"; COMMENT ON TABLESPACE "my space" IS 'x'`)
  const script = await globalsOf(source)
  const statements = splitStatements(script)
  const about = statements.map(({ kind, names }) => [kind, ...names])
  for (const expected of [
    ['create-role', 'postgres'],
    ['create-role', `quo"te'; DROP`],
    ['alter-role', `quo"te'; DROP`],
    ['create-role', 'if'],
    ['create-role', 'By'],
    ['describe-role', 'granted'],
    ['configure-role', 'granted'],
    ['grant-role', 'if', 'granted', 'postgres'],
    ['grant-role', 'pg_monitor', `quo"te'; DROP`, 'postgres'],
    ['create-tablespace', 'my space'],
    ['describe-tablespace', 'my space'],
    ['grant-tablespace', 'my space', 'By'],
    ...(major >= 15 ? [['grant-parameter', 'log_min_messages', 'By']] : []),
  ]) {
    expect(about).toContainEqual(expected)
  }
  expect(about.map(([kind]) => kind)).not.toContain('other')
  expect(script.match(/^(?:CREATE|ALTER) ROLE .*;$/gm)).toHaveLength(
    statements.filter(({ kind }) => ['create-role', 'alter-role', 'configure-role'].includes(kind)).length,
  )

  await using target = await Cluster.create()
  const taken = statements.filter(
    ({ kind, names }) => !kind.includes('tablespace') && !(kind === 'create-role' && names[0] === 'postgres'),
  )
  const errors = await run(target, `${taken.map(({ sql }) => sql).join('\n')}\n`, { stopOnError: true })
  expect(errors.count).toBe(0)
  const kept = (text: string) =>
    splitStatements(text).flatMap(({ kind, sql }) =>
      kind === 'meta' || kind.includes('tablespace') ? [] : sql,
    )
  expect(kept(await globalsOf(target))).toEqual(kept(script))
})

test('a script that was made to run a command does so: who runs it has to trust it', async (context) => {
  requireServer(context)
  await using cluster = await Cluster.create()
  const file = join(cluster.host, 'made')
  expect(await run(cluster, `\\! touch ${file}\n`)).toEqual({ count: 0, samples: [] })
  expect(existsSync(file)).toBe(true)
})

test.each([
  [
    'psql:<stdin>:4: ERROR:  42P01: relation "x" does not exist',
    { isError: true, text: 'line 4: relation "x" does not exist' },
  ],
  [
    'psql:<stdin>:4: FEHLER:  42P01: Relation »x« existiert nicht',
    { isError: true, text: 'line 4: Relation »x« existiert nicht' },
  ],
  [
    'psql:<stdin>:4: NOTICE:  42P07: relation "x" already exists, skipping',
    { isError: false, text: 'line 4: relation "x" already exists, skipping' },
  ],
  ['psql:<stdin>:4: HINWEIS:  00000: egal', { isError: false, text: 'line 4: egal' }],
  ['psql:<stdin>:4: error: invalid command \\x', { isError: true, text: 'line 4: invalid command \\x' }],
  ['LOCATION:  parserOpenTable, parse_relation.c:1384', undefined],
])('%s', (line, message) => {
  expect(messageIn(line)).toEqual(message)
})

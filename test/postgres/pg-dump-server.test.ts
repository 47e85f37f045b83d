import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import {
  canCompress,
  type DumpOptions,
  pgDump,
  pgDumpall,
  pgDumpDirectory,
} from '../../src/postgres/pg-dump.ts'
import { Cluster } from '../lab/cluster.ts'
import { poll } from '../lab/poll.ts'
import { requireServer } from '../lab/programs.ts'
import { env, failure, LARGE_TABLE, ODD_NAMES, placeOf, programOf, quiet, quoted } from './dump-lab.ts'

async function dumped(
  cluster: Cluster,
  options: Partial<DumpOptions> = {},
  format: 'custom' | 'plain' = 'plain',
) {
  const pieces = pgDump(programOf(cluster, 'pg_dump'), env, {
    connection: placeOf(cluster),
    format,
    ...quiet,
    ...options,
  })
  return Buffer.concat(await Array.fromAsync(pieces, (piece) => Buffer.from(piece))).toString('latin1')
}

async function globals(
  cluster: Cluster,
  options: { user?: string; database?: string; withoutPasswords?: boolean },
) {
  const { withoutPasswords = false, ...place } = options
  const connection = { ...placeOf(cluster), ...place }
  const script = pgDumpall(programOf(cluster, 'pg_dumpall'), env, {
    connection,
    globalsOnly: true,
    withoutPasswords,
    ...quiet,
  })
  return Buffer.concat(await Array.fromAsync(script, (piece) => Buffer.from(piece))).toString()
}

describe('a dump', () => {
  test('is of the database that was named, whatever its name', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create()
    for (const name of ODD_NAMES) {
      await cluster.sql(`CREATE DATABASE ${quoted(name)}`)
      await cluster.sql('CREATE TABLE mine AS SELECT current_database() AS name', { database: name })
      const literal = name.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')
      const { host, port, user } = cluster
      const uri = `postgresql://${user}@/postgres?host=${encodeURIComponent(host)}&port=${port}`
      for (const connection of [placeOf(cluster, name), { uri, database: name }]) {
        expect(Buffer.from(await dumped(cluster, { connection }), 'latin1').toString()).toContain(
          `\n${literal}\n`,
        )
      }
    }
    expect(await globals(cluster, { database: `quo"te'` })).toContain('CREATE ROLE postgres;')
    // Roles are read in one encoding, whichever the database is in that the program happens to connect to.
    await cluster.sql(`CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'`)
    await cluster.sql(`CREATE ROLE "käthe"`, { database: 'latin' })
    expect(await globals(cluster, { database: 'latin' })).toContain('CREATE ROLE "käthe";')
  })

  test('is of one snapshot, and of what was selected', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create()
    await cluster.sql(
      'CREATE TABLE one AS SELECT 1 AS id; CREATE SCHEMA s; CREATE TABLE s.two AS SELECT 2 AS id',
    )
    await using session = await cluster.connect()
    await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY')
    const { snapshot } = (await session.query('SELECT pg_export_snapshot() AS snapshot')).rows[0]
    await cluster.sql('UPDATE one SET id = 42')
    expect(await dumped(cluster)).toMatch(/COPY public\.one .*\n42\n/)
    const whole = await dumped(cluster, { snapshot })
    expect(whole).toMatch(/COPY public\.one .*\n1\n/)
    expect(whole).toMatch(/COPY s\.two .*\n2\n/)
    const table = await dumped(cluster, { selection: { tables: ['one'] } })
    expect(table).toContain('CREATE TABLE public.one')
    expect(table).not.toContain('two')
    const bare = await dumped(cluster, { selection: { excludeTableData: ['one'], excludeSchemas: ['s'] } })
    expect(bare).toContain('CREATE TABLE public.one')
    expect(bare).not.toMatch(/COPY|two/)
    expect(await dumped(cluster, { selection: { dataOnly: true, schemas: ['s'] } })).not.toContain('CREATE')
    expect(await dumped(cluster, { selection: { schemaOnly: true, excludeTables: ['one'] } })).not.toMatch(
      /COPY|one/,
    )
    await session.query('ROLLBACK')
    await expect(dumped(cluster, { snapshot })).rejects.toMatchObject(
      failure('failed', /could not use the snapshot/),
    )
    await expect(dumped(cluster, { selection: { tables: ['one', 'typo'] } })).rejects.toMatchObject(
      failure('absent', /no matching tables were found for pattern "typo"/),
    )
    await expect(dumped(cluster, { extra: ['--enable-row'] })).resolves.toContain('COPY')
    await expect(dumped(cluster, { extra: ['-bf/tmp/x'] })).rejects.toMatchObject(failure('usage', /./))
  })

  test('compresses as it was told, if it can', async (context) => {
    const { major } = requireServer(context)
    await using cluster = await Cluster.create()
    const program = programOf(cluster, 'pg_dump')
    await cluster.sql(LARGE_TABLE)
    const plain = await dumped(cluster, { compress: 'none' }, 'custom')
    const small = await dumped(cluster, { compress: 'gzip:1' }, 'custom')
    expect(plain.slice(0, 5)).toBe('PGDMP')
    expect(small.length).toBeLessThan(plain.length / 5)
    expect(await canCompress(program, env, 'gzip:6')).toBe(true)
    expect(await canCompress(program, env, 'bogus')).toBe(false)
    expect(await canCompress(program, env, 'zstd:1')).toBe(major >= 16)
    const zstd = dumped(cluster, { compress: 'zstd:1' }, 'custom')
    if (major >= 16) expect((await zstd).length).toBeLessThan(plain.length / 5)
    else await expect(zstd).rejects.toMatchObject(failure('refused', /cannot compress with "zstd:1"/))
  })

  test('goes into a folder by several sessions', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create()
    await cluster.sql(`${LARGE_TABLE} CREATE TABLE other AS SELECT 1 AS id`)
    const directory = join(cluster.host, 'dump')
    const options = { connection: placeOf(cluster), directory, jobs: 2, ...quiet }
    await pgDumpDirectory(programOf(cluster, 'pg_dump'), env, options)
    expect(await readdir(directory)).toHaveLength(3)
    await expect(pgDumpDirectory(programOf(cluster, 'pg_dump'), env, options)).rejects.toMatchObject(
      failure('failed', /pg_dump of "postgres" failed: .*directory ".*\/dump"/),
    )
  })
})

describe('a dump that fails', () => {
  test('for want of a server, a password or a program says so', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create({
      settings: { listen_addresses: '127.0.0.1', lc_messages: 'C' },
    })
    const connection = placeOf(cluster)
    await expect(dumped(cluster, { connection: { ...connection, port: 1 } })).rejects.toMatchObject(
      failure('connection', /^pg_dump of "postgres" cannot connect: /, /is the server running/),
    )
    await expect(dumped(cluster, { connection: placeOf(cluster, '=x') })).rejects.toMatchObject(
      failure('connection', /^pg_dump of "=x" cannot connect: database "=x" does not exist$/),
    )
    await cluster.sql(`CREATE ROLE me LOGIN PASSWORD 'right'`)
    await writeFile(
      join(cluster.dataDirectory, 'pg_hba.conf'),
      'local all postgres trust\nhost all me all scram-sha-256',
    )
    await cluster.sql('SELECT pg_reload_conf()')
    for (const password of ['wrong', undefined]) {
      const remote = { ...connection, host: '127.0.0.1', user: 'me', ...(password ? { password } : {}) }
      await expect(dumped(cluster, { connection: remote })).rejects.toMatchObject(
        failure('connection', /cannot connect: .*password/, /PGPASSWORD/),
      )
    }
    const gone = { path: '/nowhere/pg_dump', majorVersion: 99 }
    const pieces = pgDump(gone, env, { connection, format: 'custom', ...quiet })
    await expect(Array.fromAsync(pieces)).rejects.toMatchObject(
      failure('failed', /\/nowhere\/pg_dump could not be started/),
    )
  })

  test('because the server ends throws before the last piece was all', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create()
    await cluster.sql(LARGE_TABLE)
    const pieces = pgDump(programOf(cluster, 'pg_dump'), env, {
      connection: placeOf(cluster),
      format: 'custom',
      compress: 'none',
      ...quiet,
    })
    await pieces.next()
    await cluster.kill9()
    await expect(Array.fromAsync(pieces)).rejects.toMatchObject(
      failure('connection', /pg_dump of "postgres" lost the server/),
    )
  })

  test('at a lock says which, and how long a wait is allowed', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create({ settings: { lc_messages: 'C' } })
    await cluster.sql('CREATE TABLE "held up" (id int); CREATE TABLE free (id int)')
    await using session = await cluster.connect()
    await session.query('BEGIN; LOCK TABLE "held up"')
    await expect(
      dumped(cluster, { lockWaitMs: 100, selection: { tables: ['"held up"'] } }),
    ).rejects.toMatchObject(
      failure('failed', /could not lock the table public\."held up" in time/, /pg_locks/),
    )
    await expect(dumped(cluster, { lockWaitMs: 100 })).rejects.toMatchObject(
      failure('failed', /could not lock .*"held up"/),
    )
    const ending = new AbortController()
    const waiting = dumped(cluster, { signal: ending.signal })
    waiting.catch(() => {})
    await cluster.waitUntil(`EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock')`)
    ending.abort(new Error('that is enough'))
    await expect(waiting).rejects.toThrow('that is enough')
    await cluster.waitUntil(`NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgrecall')`)
  })

  test('for want of a privilege says what would help', async (context) => {
    requireServer(context)
    await using cluster = await Cluster.create({ settings: { lc_messages: 'C' } })
    await cluster.sql(`
      CREATE TABLE closed (id int);
      CREATE ROLE reader LOGIN;
      CREATE ROLE owner LOGIN;
      CREATE TABLE rows (id int);
      ALTER TABLE rows ENABLE ROW LEVEL SECURITY;
      GRANT SELECT ON rows TO reader`)
    const connection = { ...placeOf(cluster), user: 'reader' }
    await expect(dumped(cluster, { connection, selection: { tables: ['closed'] } })).rejects.toMatchObject(
      failure('refused', /pg_dump of "postgres" lacks a privilege: .*permission denied for table closed/),
    )
    await expect(dumped(cluster, { connection, selection: { tables: ['rows'] } })).rejects.toMatchObject(
      failure('refused', /"rows"/, /--enable-row-security/),
    )
    const seen = await dumped(cluster, {
      connection,
      selection: { tables: ['rows'] },
      extra: ['--enable-row-security'],
    })
    expect(seen).toContain('COPY public.rows')
    await expect(globals(cluster, { user: 'reader' })).rejects.toMatchObject(
      failure('refused', /passwords of the roles/, /superuser/),
    )
    expect(await globals(cluster, { user: 'reader', withoutPasswords: true })).toContain(
      'CREATE ROLE reader;',
    )
  })
})

test('a reader who has enough ends the program', async (context) => {
  requireServer(context)
  await using cluster = await Cluster.create()
  await cluster.sql(LARGE_TABLE)
  const options = { connection: placeOf(cluster), compress: 'none', ...quiet }
  for await (const piece of pgDump(programOf(cluster, 'pg_dump'), env, { ...options, format: 'custom' })) {
    expect(piece.length).toBeGreaterThan(0)
    break
  }
  await poll(
    async () => {
      const [row] = await cluster.sql<{ count: string }>(
        `SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgrecall'`,
      )
      return row!.count === '0'
    },
    { what: 'the end of pg_dump' },
  )
})

test('all databases go into one script', async (context) => {
  requireServer(context)
  await using cluster = await Cluster.create({ settings: { lc_messages: 'C' } })
  await cluster.sql('CREATE DATABASE "a b"')
  await cluster.sql(`CREATE TABLE t AS SELECT 'in a b' AS place`, { database: 'a b' })
  const all = (lockWaitMs?: number) =>
    Array.fromAsync(
      pgDumpall(programOf(cluster, 'pg_dumpall'), env, {
        connection: placeOf(cluster),
        globalsOnly: false,
        extra: ['--no-comments'],
        ...(lockWaitMs ? { lockWaitMs } : {}),
        ...quiet,
      }),
    )
  expect(Buffer.concat(await all()).toString()).toContain('\nin a b\n')
  await using session = await cluster.connect('a b')
  await session.query('BEGIN; LOCK TABLE t')
  await expect(all(100)).rejects.toMatchObject(
    failure('failed', /^pg_dumpall of "a b" could not lock the table public\.t in time/),
  )
  await session.query('ROLLBACK')
  await cluster.sql('CREATE DATABASE "new\nline"')
  await expect(all()).rejects.toMatchObject(failure('failed', /newline/))
})

import { cp, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import type { LogicalRecord } from '../../src/catalog/logical-record.ts'
import { answerOf, type Failure, failureOf, labFolder } from '../backup/commands.ts'
import { SmallDisk } from '../crash/small-disk.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { giveToLabUser } from '../lab/user.ts'

beforeEach((context) => void requireServer(context))

const LOGICAL = ['backup', '--method', 'logical', '--jobs', '1']
const IS_WAITING = 'EXISTS (SELECT FROM pg_locks WHERE NOT granted)'

async function listed(lab: Lab): Promise<string[]> {
  const [catalog] = await answerOf<{ logical: { id: string }[] }[]>(lab, ['list'])
  return catalog!.logical.map(({ id }) => id)
}

const folders = async (lab: Lab) =>
  (await readdir(join(lab.repository, 'main/backups')).catch(() => [])).toSorted()

async function expectNothingLeft(lab: Lab): Promise<void> {
  expect(await listed(lab)).toEqual([])
  expect(await folders(lab)).toEqual([])
}

type Running = Awaited<ReturnType<Lab['startPgrecall']>>['process']

async function endOf(running: Running): Promise<Failure> {
  const { exitCode, stdout } = await running
  return { exitCode, ...(JSON.parse(String(stdout)) as { error: Omit<Failure, 'exitCode'> }).error }
}

/** A backup that has dumped `large`, and waits for the lock of a table in `postgres`. */
async function startHeldUp(lab: Lab, args: string[] = []) {
  await lab.cluster.sql('CREATE DATABASE large')
  await lab.cluster.sql(
    'CREATE TABLE t AS SELECT g AS i, repeat(md5(g::text), 9) AS x FROM generate_series(1, 9000) AS g',
    { database: 'large' },
  )
  await lab.cluster.sql('CREATE TABLE held (i int)')
  const holder = await lab.cluster.connect()
  await holder.query('SET idle_in_transaction_session_timeout = 0; BEGIN; LOCK TABLE held')
  const { process } = await lab.startPgrecall([...LOGICAL, ...args, '--json'])
  await lab.cluster.waitUntil(IS_WAITING)
  return { process, holder }
}

describe('a logical backup that is stopped', () => {
  test('by SIGKILL is never listed, and goes with the next one', async () => {
    await using lab = await Lab.create()
    const { process, holder } = await startHeldUp(lab)
    await using _holder = holder
    const [unfinished] = await folders(lab)
    expect(await readdir(join(lab.repository, 'main/backups', unfinished!))).toEqual(
      expect.arrayContaining([expect.stringMatching(/^large\.dump/)]),
    )
    process.kill('SIGKILL')
    await process
    await holder.query('COMMIT')
    // What an interrupted physical one has left, the next of these may go on from.
    const physical = '20261101T120000Z-full'
    await cp(
      join(lab.repository, 'main/backups', unfinished!),
      join(lab.repository, 'main/backups', physical),
      { recursive: true },
    )
    await giveToLabUser(join(lab.repository, 'main/backups', physical))
    expect(await listed(lab)).toEqual([])
    expect(await folders(lab)).toEqual([physical, unfinished].toSorted())
    const { id } = await answerOf<LogicalRecord>(lab, LOGICAL)
    expect(id).not.toBe(unfinished)
    expect(await listed(lab)).toEqual([id])
    expect(await folders(lab)).toEqual([physical, id].toSorted())
  })

  test('by SIGKILL leaves a staged dump, which goes with the next one; by SIGTERM none', async () => {
    await using lab = await Lab.create()
    const staging = await labFolder(join(lab.scratch.path, 'staging'))
    const { process, holder } = await startHeldUp(lab, ['--staging', staging])
    await using _holder = holder
    expect(await readdir(staging)).toHaveLength(1)
    process.kill('SIGKILL')
    await process
    const [left] = await readdir(staging)
    await lab.cluster.sql(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted`)
    const next = await lab.startPgrecall([...LOGICAL, '--staging', staging, '--json'])
    await lab.cluster.waitUntil(IS_WAITING)
    const staged = await readdir(staging)
    expect(staged).toHaveLength(1)
    expect(staged).not.toContain(left)
    next.process.kill('SIGTERM')
    expect(await endOf(next.process)).toMatchObject({ exitCode: 130, kind: 'interrupted' })
    expect(await readdir(staging)).toEqual([])
    await expectNothingLeft(lab)
  })

  // pg_dumpall is not all that runs: it has started a pg_dump, which waits for the lock and knows of no signal.
  test.each([[[]], [['--whole']]])(
    'by SIGTERM ends, with what its programs have started: %j',
    async (args) => {
      await using lab = await Lab.create()
      const { process, holder } = await startHeldUp(lab, args)
      await using _holder = holder
      process.kill('SIGTERM')
      expect(await endOf(process)).toMatchObject({ exitCode: 130, kind: 'interrupted' })
      await expectNothingLeft(lab)
    },
  )

  test('by the end of the server leaves nothing', async () => {
    await using lab = await Lab.create()
    const { process } = await startHeldUp(lab)
    await lab.cluster.kill9()
    expect(await endOf(process)).toMatchObject({ exitCode: 4, kind: 'connection' })
    await lab.cluster.start()
    await expectNothingLeft(lab)
  })
})

test('a session that waits for a dump is not ended as an idle one', async () => {
  await using lab = await Lab.create()
  await lab.cluster.sql(`ALTER ROLE postgres SET idle_in_transaction_session_timeout = '200ms'`)
  const { process, holder } = await startHeldUp(lab)
  await lab.cluster.waitUntil(
    `EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgrecall' AND state = 'idle in transaction'
                                                AND clock_timestamp() - state_change > '1 s')`,
  )
  await holder.end()
  expect((await process).exitCode).toBe(0)
})

test('a lock that is not had in time is told with its table', async () => {
  await using lab = await Lab.create()
  await lab.cluster.sql('CREATE TABLE held (i int)')
  await using holder = await lab.cluster.connect()
  await holder.query('BEGIN; LOCK TABLE held')
  const failure = await failureOf(lab, [...LOGICAL, '--lock-wait', '1'])
  expect(failure).toMatchObject({ exitCode: 11, message: expect.stringContaining('held') })
  await expectNothingLeft(lab)
})

test('a wrong password is told as that, and never shown', async () => {
  await using lab = await Lab.create()
  await lab.cluster.sql(`CREATE ROLE asked LOGIN SUPERUSER PASSWORD 'right'`)
  const rules = join(lab.cluster.dataDirectory, 'pg_hba.conf')
  await writeFile(rules, `local all asked scram-sha-256\n${await readFile(rules, 'utf8')}`)
  await lab.cluster.sql('SELECT pg_reload_conf()')
  await lab.writeConfiguration(({ clusters }) => {
    const { host, port } = lab.cluster
    clusters.main!.connection = { host, port, user: 'asked' }
  })
  const failure = await failureOf(lab, LOGICAL, { env: { PGPASSWORD: 'wr0ng' } })
  expect(failure).toMatchObject({
    exitCode: 4,
    message: expect.stringContaining('password authentication failed'),
    hint: expect.stringContaining('PGPASSWORD'),
  })
  expect(JSON.stringify(failure)).not.toContain('wr0ng')
  await answerOf(lab, LOGICAL, { env: { PGPASSWORD: 'right' } })
})

describe('a full disk', () => {
  const fill = (lab: Lab) =>
    lab.cluster.sql(
      `CREATE TABLE t AS SELECT gen_random_uuid() AS one, gen_random_uuid() AS two FROM generate_series(1, 150000)`,
    )

  test('of the only repository fails the backup, and leaves nothing', async (context) => {
    await using lab = await Lab.create()
    await using disk = await SmallDisk.mount(await lab.scratch.folder('small'), 3)
    if (!disk) return context.skip('this user may not mount')
    lab.repositories.local!.configuration.path = join(disk.path, 'repository')
    await lab.writeConfiguration()
    await fill(lab)
    const failure = await failureOf(lab, LOGICAL)
    expect(failure).toMatchObject({ exitCode: 7, message: expect.stringMatching(/no space|full/i) })
    expect(await listed(lab)).toEqual([])
    expect(await readdir(join(disk.path, 'repository/main/backups')).catch(() => [])).toEqual([])
  })

  test('of one repository leaves the backup in the other', async (context) => {
    await using lab = await Lab.create({ repositories: { local: 'local', small: 'local' } })
    await using disk = await SmallDisk.mount(await lab.scratch.folder('small'), 3)
    if (!disk) return context.skip('this user may not mount')
    lab.repositories.small!.configuration.path = join(disk.path, 'repository')
    await lab.writeConfiguration()
    await fill(lab)
    const { exitCode, stdout } = await lab.pgrecall([...LOGICAL, '--fingerprint', '--json'])
    expect(exitCode).toBe(7)
    const { id, repositories } = JSON.parse(stdout) as { id: string; repositories: unknown[] }
    expect(repositories).toMatchObject([
      { name: 'local', result: 'stored' },
      {
        name: 'small',
        result: 'failed',
        kind: 'repository',
        reason: expect.stringMatching(/no space|full/i),
      },
    ])
    expect(await folders(lab)).toEqual([id])
    expect(await readdir(join(disk.path, 'repository/main/backups')).catch(() => [])).toEqual([])
  })

  test('of the place for staging fails the backup, and leaves nothing there', async (context) => {
    await using lab = await Lab.create()
    await using disk = await SmallDisk.mount(await lab.scratch.folder('small'), 3)
    if (!disk) return context.skip('this user may not mount')
    const staging = ['--staging', disk.path]
    // The database is larger than the disk, and has no tables yet.
    await answerOf(lab, [...LOGICAL, ...staging])
    await fill(lab)
    expect(await failureOf(lab, [...LOGICAL, ...staging])).toMatchObject({
      exitCode: 5,
      message: expect.stringMatching(/has \d MiB free, and the dump of "postgres" may need \d+ MiB there/),
    })
    // How much a selection needs is not known before.
    expect(await failureOf(lab, [...LOGICAL, ...staging, '--table', 't'])).toMatchObject({
      exitCode: 11,
      message: `${disk.path} is full: there is no room for the dump of "postgres"`,
    })
    expect(await readdir(disk.path)).toEqual([])
    expect(await listed(lab)).toHaveLength(1)
  })
})

test('a database that was dropped before its turn is missing; one that was renamed or made anew is not', async () => {
  await using lab = await Lab.create()
  const named = ['--database', 'postgres', '--database', 'gone']
  const changes: Record<string, { more: string[]; sql: string[] }> = {
    dropped: { more: [], sql: ['DROP DATABASE gone'] },
    named: { more: named, sql: ['DROP DATABASE gone'] },
    renamed: { more: [], sql: ['ALTER DATABASE gone RENAME TO "else where"'] },
    replaced: { more: named, sql: ['DROP DATABASE gone', 'CREATE DATABASE gone'] },
    swapped: { more: [], sql: ['ALTER DATABASE gone RENAME TO other', 'CREATE DATABASE gone'] },
  }
  for (const [how, { more, sql }] of Object.entries(changes)) {
    for (const name of ['gone', 'other', '"else where"'])
      await lab.cluster.sql(`DROP DATABASE IF EXISTS ${name}`)
    await lab.cluster.sql('CREATE DATABASE gone')
    await lab.cluster.sql('CREATE TABLE IF NOT EXISTS held AS SELECT g FROM generate_series(1, 50000) AS g')
    await using holder = await lab.cluster.connect()
    await holder.query('BEGIN; LOCK TABLE held')
    const { process } = await lab.startPgrecall([...LOGICAL, ...more, '--json'])
    await lab.cluster.waitUntil(IS_WAITING)
    for (const statement of sql) await lab.cluster.sql(statement)
    await holder.query('COMMIT')
    if (how === 'named' || how === 'swapped') {
      const exitCode = how === 'named' ? 1 : 11
      expect(await endOf(process)).toMatchObject({ exitCode, message: expect.stringContaining('"gone"') })
      continue
    }
    const record = JSON.parse(String((await process).stdout)) as LogicalRecord
    const other = { dropped: [], renamed: ['else where'], replaced: ['gone'] }[how]!
    expect(record.databases.map(({ name }) => name).toSorted()).toEqual([...other, 'postgres'].toSorted())
    const [gone] = await lab.cluster.sql<{ oid: string }>(
      `SELECT oid::text AS oid FROM pg_database WHERE datname IN ('gone', 'else where')`,
    )
    const dumps = record.objects.filter(({ kind }) => kind === 'dump')
    expect(dumps.map(({ name }) => name.replace(/\.dump.*/, '')).toSorted()).toEqual(
      [...(gone ? [`oid-${gone.oid}`] : []), 'postgres'].toSorted(),
    )
    const text = { dropped: '"gone" was dropped', renamed: 'as "else where"', replaced: 'made anew' }[how]!
    expect(record.warnings).toEqual([expect.stringContaining(text)])
  }
}, 120_000)

test('a backup of no database at all is none', async () => {
  await using lab = await Lab.create()
  await lab.cluster.sql('CREATE DATABASE gone')
  // Holds up pg_dumpall, and nothing else.
  await using holder = await lab.cluster.connect()
  await holder.query('BEGIN; LOCK TABLE pg_auth_members')
  const { process } = await lab.startPgrecall([...LOGICAL, '--database', 'g*', '--json'])
  await lab.cluster.waitUntil(IS_WAITING)
  await lab.cluster.sql('DROP DATABASE gone')
  await holder.query('COMMIT')
  expect(await endOf(process)).toMatchObject({
    exitCode: 11,
    message: 'every database was dropped before it could be dumped',
  })
  await expectNothingLeft(lab)
})

test('a role with few privileges dumps what it may read, and is told what it may not', async () => {
  await using lab = await Lab.create()
  await lab.cluster.sql(
    `CREATE ROLE plain LOGIN; CREATE TABLE mine (i int); CREATE TABLE secret (i int); GRANT SELECT ON mine TO plain`,
  )
  await lab.writeConfiguration(({ clusters }) => {
    const { host, port } = lab.cluster
    clusters.main!.connection = { host, port, user: 'plain' }
  })
  const failure = await failureOf(lab, LOGICAL)
  expect(failure).toMatchObject({
    exitCode: 5,
    message: expect.stringContaining('permission denied for table secret'),
  })
  expect(failure.hint).toContain('pg_read_all_data')
  await expectNothingLeft(lab)
  const record = await answerOf<LogicalRecord>(lab, [...LOGICAL, '--table', 'mine', '--fingerprint'])
  expect(record.databases[0]!.contents).toMatchObject({ TABLE: 1 })
  expect(record.warnings).toEqual([expect.stringContaining('"plain" is no superuser')])
  await lab.cluster.sql(
    `GRANT SELECT ON secret TO plain; SELECT lo_from_bytea(77, 'x'); GRANT SELECT ON LARGE OBJECT 77 TO plain`,
  )
  expect((await answerOf<LogicalRecord>(lab, [...LOGICAL, '--fingerprint'])).warnings).toEqual([
    expect.stringContaining('"plain" is no superuser'),
    'database "postgres": there is no fingerprint of large objects (the role may not read them all)',
  ])
})

test('a standby is dumped like any other server, also by several sessions', async () => {
  await using lab = await Lab.create({ archive: false })
  await lab.cluster.sql('CREATE TABLE t AS SELECT 1 AS i; CREATE UNLOGGED TABLE u AS SELECT 1 AS i')
  const dataDirectory = join(lab.scratch.path, 'standby-data')
  await lab.cluster.run('pg_basebackup', [
    '--pgdata',
    dataDirectory,
    '--checkpoint=fast',
    '--write-recovery-conf',
  ])
  const standby = await lab.adopt(dataDirectory)
  await standby.start()
  await lab.writeConfiguration(({ clusters }) => {
    const { host, port, user } = standby
    Object.assign(clusters.main!, { dataDirectory, connection: { host, port, user } })
  })
  const staging = await labFolder(join(lab.scratch.path, 'staging'))
  for (const how of [[], ['--staging', staging]]) {
    const record = await answerOf<LogicalRecord>(lab, [...LOGICAL, '--fingerprint', ...how])
    expect(record).toMatchObject({
      fromStandby: true,
      databases: [{ contents: { TABLE: 2, 'TABLE DATA': 1 } }],
    })
  }
})

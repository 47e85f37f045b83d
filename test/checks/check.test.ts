import { chmod, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { backUp, labFolder } from '../backup/commands.ts'
import { Lab, type LabConfiguration } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'

interface Finding {
  subject: string
  verdict: 'pass' | 'warn' | 'fail'
  text: string
  hint?: string
}

let lab: Lab

/** What is not well, as "verdict subject: text", and the exit code, which fits it. */
async function faults(...options: string[]): Promise<string[]> {
  const { stdout, exitCode } = await lab.pgrecall(['check', '--json', ...options])
  const findings = JSON.parse(stdout) as Finding[]
  const wrong = findings.filter(({ verdict }) => verdict !== 'pass')
  expect(exitCode).toBe(wrong.some(({ verdict }) => verdict === 'fail') ? 12 : 0)
  expect(wrong.filter(({ hint }) => hint === undefined)).toEqual([])
  return wrong.map(({ verdict, subject, text }) => `${verdict} ${subject}: ${text}`)
}

const look = () => faults('--read-only')

async function run(...statements: string[]): Promise<void> {
  for (const statement of statements) await lab.cluster.sql(statement)
}

async function set(name: string, value: string): Promise<void> {
  await run(`ALTER SYSTEM SET ${name} = '${value.replaceAll("'", "''")}'`, 'SELECT pg_reload_conf()')
  await lab.cluster.waitUntil(`current_setting('${name}') = '${value.replaceAll("'", "''")}'`)
}

describe.skipIf(!findPrograms() && !process.env.CI)('check finds what is spoiled', () => {
  beforeAll(async () => {
    lab = await Lab.create({ encrypted: true, settings: { fsync: true, archive_timeout: '1h' } })
    await backUp(lab)
    await run('CREATE DATABASE shop')
  })
  beforeEach(async (context) => {
    requireServer(context)
    await lab.writeConfiguration()
  })
  afterEach(async () => {
    if (!lab?.cluster.isRunning) return
    await run('ALTER SYSTEM RESET ALL', 'SELECT pg_reload_conf()')
  })
  afterAll(() => lab?.[Symbol.asyncDispose]())

  const UNPROVEN = [
    'warn proof in "local": what is stored was never read back',
    'warn proof in "local": no restore was verified yet',
  ]
  const restored = () =>
    lab.cluster.waitUntil(`NOT EXISTS (SELECT FROM pg_settings WHERE sourcefile LIKE '%auto.conf')`)

  test('nothing, where all is well; and a segment arrives', async () => {
    expect(await faults()).toEqual(UNPROVEN)
    const { stdout } = await lab.pgrecall(['check'])
    expect(stdout).toMatch(/^pass {2}archive: segment \w{24} was switched and is stored/m)
  })

  test('without changing anything, where that is asked for', async () => {
    const state = async () => {
      const names = await readdir(lab.scratch.path, { recursive: true })
      const stored = names.filter((name) => name.startsWith('repository')).toSorted()
      const times = stored.map(async (name) => (await stat(join(lab.scratch.path, name))).mtimeMs)
      const [position] = await lab.cluster.sql('SELECT pg_current_wal_insert_lsn()')
      return { stored, times: await Promise.all(times), position }
    }
    await run('CHECKPOINT')
    const before = await state()
    expect(await look()).toEqual(UNPROVEN)
    expect(await state()).toEqual(before)
    await lab.writeConfiguration(({ repositories }) => {
      repositories.local!.path = join(lab.scratch.path, 'unmade/repository')
    })
    expect(await look()).toContainEqual(
      expect.stringMatching(/^fail repository "local": .* is not a repository$/),
    )
    expect(await readdir(lab.scratch.path)).not.toContain('unmade')
  })

  test.each([
    ['archive_timeout', '0', /^warn archive_timeout: archive_timeout is 0/],
    ['fsync', 'off', /^warn fsync: fsync is off/],
    ['full_page_writes', 'off', /^warn full_page_writes: full_page_writes is off/],
    ['archive_command', 'true', /^fail archive_command: .* and stores none$/],
    ['archive_command', '/nowhere/pgrecall wal-push "%p"', /^fail archive_command: .* which is not there$/],
    ['max_wal_size', '2000000GB', /^warn space for pg_wal: .* max_wal_size lets pg_wal grow to/],
  ])('in a setting: %s = %s', async (name, value, said) => {
    await restored()
    await set(name, value)
    expect(await look()).toContainEqual(expect.stringMatching(said))
  })

  test('in what the databases hold', async () => {
    await lab.cluster.sql('CREATE UNLOGGED TABLE "passing thing" (a int)', { database: 'shop' })
    const inside = await labFolder(join(lab.cluster.dataDirectory, 'inside'))
    await run(
      `CREATE TABLESPACE inside LOCATION '${inside}'`,
      `SELECT pg_create_physical_replication_slot('idle', true)`,
    )
    const said = await look()
    expect(said).toContain(
      'warn unlogged tables: 1 unlogged table in "shop" comes back empty: public."passing thing"',
    )
    expect(said).toContain(
      'warn tablespaces: tablespace "inside" lies inside the data directory, so a restore must be told of another place for it, and a backup has it twice',
    )
    expect(said).toContainEqual(
      expect.stringMatching(/^warn slots: nobody receives through slot "idle", for which pg_wal keeps/),
    )
    await run('DROP TABLESPACE inside', `SELECT pg_drop_replication_slot('idle')`)
    await lab.cluster.sql('DROP TABLE "passing thing"', { database: 'shop' })
  })

  test('in the modes of files', async () => {
    const key = join(lab.cluster.dataDirectory, 'server.key')
    const { identityFile } = lab.repositories.local!.configuration.encryption as { identityFile: string }
    await writeFile(key, '')
    await chmod(key, 0)
    await chmod(lab.configFile, 0o666)
    await chmod(lab.repository, 0o755)
    await chmod(identityFile, 0o644)
    expect(await look()).toEqual([
      `warn configuration: ${lab.configFile} can be changed by others`,
      `warn secret files: ${identityFile} holds a secret and can be read by others`,
      `warn repository "local": the folder ${lab.repository} is open to others (mode 0755)`,
      `fail files: ${key} cannot be read, so a backup would fail`,
      ...UNPROVEN,
    ])
    await rm(key)
    await chmod(lab.repository, 0o700)
    await chmod(identityFile, 0o600)
    await chmod(lab.configFile, 0o600)
  })

  test('in the rights of a role, also for dumps, until what it says was run', async () => {
    await run(
      'CREATE ROLE poor LOGIN',
      'GRANT pg_read_all_settings TO poor',
      'REVOKE CONNECT ON DATABASE shop FROM PUBLIC',
    )
    await run('CREATE TABLE IF NOT EXISTS secret (a int)')
    await lab.writeConfiguration((configuration: LabConfiguration) => {
      const { connection } = configuration.clusters.main as { connection: Record<string, unknown> }
      connection.user = 'poor'
      configuration.clusters.main!.retention = { logical: 3 }
    })
    const subjects = async () => (await look()).map((line) => /^\w+ [^:]*/.exec(line)?.[0])
    expect(await subjects()).toEqual([
      'fail backup',
      'warn archive',
      'warn rights',
      'fail dumps',
      'fail dumps',
      'warn proof in "local"',
      'warn proof in "local"',
    ])
    const { stdout } = await lab.pgrecall(['check', '--json', '--read-only'])
    for (const { hint } of JSON.parse(stdout) as Finding[]) {
      const [statement] = /(?:GRANT|ALTER ROLE) .*/.exec(hint ?? '') ?? []
      if (statement) await run(statement)
    }
    expect(await subjects()).toEqual(['warn proof in "local"', 'warn proof in "local"'])
  })

  // After this one the archiver waits for as long as a minute before it tries again.
  test('an archive_command that fails, and what it says of another configuration', async () => {
    await restored()
    await set('archive_command', `/bin/sh ${join(lab.scratch.path, 'wal-push')} wal-push "%p"`)
    await run("SELECT pg_create_restore_point('here')", 'SELECT pg_switch_wal()')
    await lab.cluster.waitUntil('(SELECT failed_count > 0 FROM pg_stat_archiver)')
    const said = await faults('--timeout', '1')
    expect(said).toContainEqual(
      expect.stringMatching(/^fail archiver: archiving fails, last \d+ s ago with 0000/),
    )
    expect(said).toContainEqual(
      expect.stringMatching(/^warn archive_command: .* reads another configuration/),
    )
    expect(said.at(-1)).toMatch(/^fail archive: segment \w{24} did not arrive .* the archiver last failed at/)
  })

  test('in settings that need a restart, and where the server is down', async () => {
    await run(
      'ALTER SYSTEM SET archive_mode = off',
      'ALTER SYSTEM SET wal_level = minimal',
      'ALTER SYSTEM SET max_wal_senders = 0',
      `ALTER SYSTEM SET recovery_target_time = '2026-01-01'`,
    )
    await lab.cluster.stop()
    const down = await faults()
    expect(down).toEqual([
      expect.stringMatching(/^fail connection: cannot connect to the server at/),
      ...UNPROVEN,
    ])
    await lab.cluster.start()
    expect(await faults()).toEqual([
      expect.stringMatching(/^fail backup: a backup by "files" would be refused: WAL is not being archived/),
      expect.stringMatching(/^fail wal_level: wal_level is minimal/),
      expect.stringMatching(/^warn recovery target: recovery_target_time is left from an earlier recovery/),
      'fail archive_mode: archive_mode is off and no wal-receive is connected, so no WAL is archived',
      ...UNPROVEN,
    ])
  })
})

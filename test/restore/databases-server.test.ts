import { existsSync } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { escapeIdentifier, escapeLiteral } from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { answerOf, backUp, failureOf, labFolder, type RestoreAnswer } from '../backup/commands.ts'
import { type TableChecksum, tableChecksums } from '../lab/checksums.ts'
import type { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'

const KEPT = 'kept'
const ODD = 'odd "name"'
const IN_SPACE = 'in_space'
const LEFT_OUT = [ODD, IN_SPACE]

let lab: Lab
let backup: BackupRecord
let before: { kept: TableChecksum[]; shared: TableChecksum[] }
let oids: Map<string, string>

const place = (name: string) => join(lab.scratch.path, name)
const spaceFor = (name: string) => ['--tablespace', `space=${place(`${name}-space`)}`]

/** All kinds of changes that a recovery has to replay over placeholders. */
async function change(database: string): Promise<void> {
  const { cluster } = lab
  const statements = [
    'INSERT INTO numbers SELECT generate_series(1, 20000)',
    'UPDATE numbers SET n = n + 1 WHERE n % 7 = 0',
    'DELETE FROM numbers WHERE n % 11 = 0',
    'VACUUM numbers',
    'CREATE INDEX ON numbers (n)',
    'TRUNCATE emptied',
    'INSERT INTO emptied SELECT generate_series(1, 1000)',
    'DROP TABLE dropped',
    'CREATE TABLE made AS SELECT generate_series(1, 1000) AS n',
    'VACUUM FULL made',
    'ANALYZE',
    'CHECKPOINT',
    'UPDATE numbers SET n = n + 1 WHERE n % 5 = 0',
  ]
  for (const statement of statements) await cluster.sql(statement, { database })
}

async function requireOthersWhole(server: Cluster): Promise<void> {
  expect(await tableChecksums(server, KEPT)).toEqual(before.kept)
  expect(await tableChecksums(server)).toEqual(before.shared)
  for (const database of LEFT_OUT) {
    await expect(server.sql('SELECT 1', { database })).rejects.toThrow()
    await server.sql(`DROP DATABASE ${escapeIdentifier(database)}`)
  }
  const left = await server.sql<{ datname: string }>('SELECT datname FROM pg_database ORDER BY 1')
  expect(left.map(({ datname }) => datname)).toEqual([KEPT, 'postgres', 'template0', 'template1'])
  await server.sql('CREATE DATABASE again')
  await server.sql('VACUUM', { database: KEPT })
  await server.run('pg_amcheck', ['--all', '--install-missing'])
  await server.stop()
  await server.run('pg_checksums', ['--check', '-D', server.dataDirectory])
}

async function start(directory: string): Promise<Cluster> {
  const server = await lab.adopt(directory, { settings: { archive_mode: 'off' } })
  await server.start()
  await server.waitForPromotion()
  return server
}

const isZero = async (path: string) => (await readFile(path)).every((byte) => byte === 0)

describe.skipIf(!findPrograms() && !process.env.CI)('a partial restore', () => {
  beforeAll(async () => {
    lab = await Lab.create()
    const { cluster } = lab
    const location = await labFolder(place('space'))
    await cluster.sql(`CREATE TABLESPACE space LOCATION ${escapeLiteral(location)}`)
    await cluster.sql(`CREATE DATABASE ${KEPT}`)
    await cluster.sql(`CREATE DATABASE ${escapeIdentifier(ODD)}`)
    await cluster.sql(`CREATE DATABASE ${IN_SPACE} TABLESPACE space`)
    for (const database of [KEPT, ...LEFT_OUT, 'postgres']) {
      for (const table of ['numbers', 'emptied', 'dropped']) {
        await cluster.sql(`CREATE TABLE ${table} AS SELECT generate_series(1, 50000) AS n`, { database })
      }
    }
    await cluster.sql('CREATE TABLE also TABLESPACE space AS SELECT 1 AS n', { database: KEPT })
    await cluster.sql('CHECKPOINT')
    backup = await backUp(lab, ['--type', 'full'])
    for (const database of [KEPT, ...LEFT_OUT]) await change(database)
    before = { kept: await tableChecksums(cluster, KEPT), shared: await tableChecksums(cluster) }
    await cluster.archiveWal()
    const rows = await cluster.sql<{ oid: number; datname: string }>(
      'SELECT oid::int, datname FROM pg_database',
    )
    oids = new Map(rows.map(({ oid, datname }) => [datname, String(oid)]))
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('brings back the others whole, and what it left out can be dropped', async () => {
    const directory = place('included')
    const args = ['restore', '-D', directory, ...spaceFor('included'), '--include-database', KEPT]
    const { stdout } = await lab.pgrecall(args)
    expect(stdout).toContain('DROP DATABASE "odd ""name""";')
    expect(stdout).toContain(`DROP DATABASE "${IN_SPACE}";`)
    expect(existsSync(join(directory, 'backup_manifest'))).toBe(false)
    const { size, blocks } = await stat(join(directory, 'base', oids.get(ODD)!, '1259'))
    expect(size).toBeGreaterThan(8192)
    expect(blocks).toBe(0)
    expect(await readFile(join(directory, 'base', oids.get(ODD)!, 'PG_VERSION'), 'utf8')).toMatch(/\d/)
    const [version] = await readdir(place('included-space'))
    const inSpace = join(place('included-space'), version!)
    expect(await isZero(join(inSpace, oids.get(IN_SPACE)!, '1259'))).toBe(true)
    expect(await isZero(join(directory, 'base', oids.get(KEPT)!, '1259'))).toBe(false)
    await requireOthersWhole(await start(directory))
  })

  test('excludes by name and by oid, and shows it in the plan first', async () => {
    const directory = place('excluded')
    const args = ['restore', '-D', directory, ...spaceFor('excluded')]
    const exclude = ['--exclude-database', ODD, '--exclude-database', oids.get(IN_SPACE)!]
    const { stdout } = await lab.pgrecall([...args, ...exclude, '--dry-run'])
    expect(stdout).toMatch(new RegExp(`Databases .*"${KEPT}"`))
    expect(stdout).toMatch(
      /Without +"in_space", "odd "name"": placeholders|Without +"odd "name"", "in_space": placeholders/,
    )
    expect(existsSync(directory)).toBe(false)
    const { plan } = await answerOf<RestoreAnswer>(lab, [...args, ...exclude])
    expect(plan.partial!.emptied.map(({ name }) => name!).toSorted()).toEqual([IN_SPACE, ODD])
    await requireOthersWhole(await start(directory))
  })

  test('goes over a whole cluster too, and back again', async () => {
    const directory = place('over')
    const whole = ['restore', '--delta', '-D', directory, ...spaceFor('over')]
    await answerOf(lab, whole)
    const relation = join(directory, 'base', oids.get(ODD)!, '1259')
    expect(await isZero(relation)).toBe(false)
    const exclude = ['--exclude-database', ODD, '--exclude-database', IN_SPACE]
    await answerOf(lab, [...whole, ...exclude])
    expect(await isZero(relation)).toBe(true)
    expect(existsSync(join(directory, 'backup_manifest'))).toBe(false)
    await requireOthersWhole(await start(directory))
    await answerOf(lab, whole)
    await lab.cluster.run('pg_verifybackup', ['-n', directory])
  })

  test('of a database that there is not is refused with a list, and so are both options at once', async () => {
    const args = ['restore', '-D', place('unmade')]
    const failure = await failureOf(lab, [...args, '--include-database', 'shop'])
    expect(failure).toMatchObject({ kind: 'usage', message: `backup ${backup.id} has no database "shop"` })
    expect(failure.hint).toContain(`"${KEPT}" (${oids.get(KEPT)})`)
    const both = ['--include-database', KEPT, '--exclude-database', ODD]
    expect(await failureOf(lab, [...args, ...both])).toMatchObject({ kind: 'usage' })
  })
})

import { existsSync } from 'node:fs'
import { lstat, mkdir, readdir, readlink, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { escapeIdentifier, escapeLiteral } from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import {
  answerOf,
  backUp,
  failureOf,
  labFolder,
  type RestoreAnswer,
  recover,
  restoreTo,
} from '../backup/commands.ts'
import { type TableChecksum, tableChecksums } from '../lab/checksums.ts'
import type { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'

/** PostgreSQL allows everything in a location but a single quote. */
const ODD = { name: 'Odd "space" $1', folder: `odd ${'\\'} "place" $HOME é` }
const PLAIN = { name: 'plain', folder: 'plain' }

let lab: Lab
let backup: BackupRecord
let before: TableChecksum[]
let oidOfPlain: string

const placeOf = (folder: string) => join(lab.scratch.path, folder)
const mapping = (old: string, folder: string) => ['--tablespace', `${old}=${placeOf(folder)}`]

describe.skipIf(!findPrograms() && !process.env.CI)('a cluster with tablespaces', () => {
  beforeAll(async () => {
    lab = await Lab.create()
    for (const { name, folder } of [ODD, PLAIN]) {
      await makeTablespace(lab.cluster, name, await labFolder(placeOf(folder)))
    }
    backup = await backUp(lab)
    oidOfPlain = backup.tablespaces.find((space) => space.name === 'plain')!.oid
    before = await tableChecksums(lab.cluster)
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('comes back with each tablespace in a new place, named by location, name or oid', async () => {
    const args = [...mapping(placeOf(ODD.folder), 'new odd "1"'), ...mapping('plain', 'new-plain-1')]
    const server = await recover(lab, 'moved', args)
    await server.waitForPromotion()
    expect(await tableChecksums(server)).toEqual(before)
    const locations = await server.sql<{ place: string }>(
      `SELECT pg_tablespace_location(oid) AS place FROM pg_tablespace WHERE oid >= 16384 ORDER BY oid`,
    )
    expect(locations.map((row) => row.place)).toEqual([placeOf('new odd "1"'), placeOf('new-plain-1')])
    expect((await lstat(placeOf('new-plain-1'))).mode & 0o777).toBe(0o700)

    const byOid = [...mapping(ODD.name, 'new-odd-2'), ...mapping(oidOfPlain, 'new-plain-2')]
    const directory = await restoreTo(lab, 'by-oid', byOid)
    await lab.cluster.run('pg_verifybackup', ['-n', directory])
    expect(await readlink(join(directory, 'pg_tblspc', oidOfPlain))).toBe(placeOf('new-plain-2'))
  })

  test('never touches the tablespaces of the cluster that still runs, not even with --force', async () => {
    const inPlace = ['restore', '-D', placeOf('refused')]
    for (const args of [inPlace, [...inPlace, '--force'], [...inPlace, ...mapping('plain', 'elsewhere')]]) {
      const failure = await failureOf(lab, args)
      expect(failure).toMatchObject({ exitCode: 5, kind: 'refused' })
      expect(failure.message).toContain('in use')
      expect(failure.hint).toContain('--tablespace')
    }
    expect(existsSync(placeOf('refused'))).toBe(false)
    expect(await tableChecksums(lab.cluster)).toEqual(before)
  })

  test('is restored over itself with --force, and what other versions keep in the folder stays', async () => {
    const neighbour = join(placeOf(PLAIN.folder), 'PG_9.6_201608131')
    await mkdir(neighbour)
    await writeFile(join(neighbour, 'file'), 'of another server')
    await lab.cluster.stop()
    try {
      expect(await failureOf(lab, ['restore'])).toMatchObject({ exitCode: 5 })
      const answer = await answerOf<RestoreAnswer>(lab, ['restore', '--force'])
      expect(answer.replaces).toContain(placeOf(PLAIN.folder))
      await lab.cluster.start()
      await lab.cluster.waitForPromotion()
      expect(await tableChecksums(lab.cluster)).toEqual(before)
      expect(existsSync(join(neighbour, 'file'))).toBe(true)
    } finally {
      await rm(neighbour, { recursive: true })
    }
  })

  test.each<[string, () => Promise<string[]>, number]>([
    ['a place that holds other things', async () => mapping('plain', await occupied('occupied')), 5],
    ['a place inside the data directory', async () => mapping('plain', 'refused/inside'), 5],
    [
      'one place for two tablespaces',
      async () => [...mapping('plain', 'same'), ...mapping(ODD.name, 'same')],
      5,
    ],
    ['a tablespace that there is not', async () => mapping('unknown', 'anywhere'), 2],
    ['a mapping without a new place', async () => ['--tablespace', 'plain'], 2],
  ])('refuses %s', async (_what, args, exitCode) => {
    const rest = [...mapping(ODD.name, 'rest-odd'), ...mapping('plain', 'rest-plain')]
    const own = await args()
    const others = rest.filter((_word, at) => !own.join(' ').includes(rest[at | 1]!.split('=')[0]!))
    const failure = await failureOf(lab, ['restore', '-D', placeOf('refused'), ...others, ...own])
    expect(failure).toMatchObject({ exitCode })
    expect(existsSync(placeOf('refused'))).toBe(false)
  })

  test('includes a tablespace that was made while the backup waited for its checkpoint', async () => {
    const { cluster } = lab
    await cluster.sql(`ALTER SYSTEM SET checkpoint_timeout = '30s'`)
    await cluster.sql('ALTER SYSTEM SET checkpoint_completion_target = 0.1')
    await cluster.sql('SELECT pg_reload_conf()')
    await cluster.sql('CREATE TABLE dirty AS SELECT generate_series(1, 100000) AS n')
    const started = await lab.startPgrecall(['backup', '--checkpoint', 'spread', '--json'])
    await cluster.waitUntil(
      `EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pgrecall' AND query LIKE '%pg_backup_start%' AND state = 'active')`,
    )
    await makeTablespace(cluster, 'late', await labFolder(placeOf('late')))
    const { stdout, stderr } = await started.process
    expect(stderr).toContain('Ending the backup')
    const record = JSON.parse(String(stdout)) as BackupRecord
    expect(record.tablespaces.map((space) => space.name)).toContain('late')
  })
})

async function makeTablespace(server: Cluster, name: string, folder: string): Promise<void> {
  const space = escapeIdentifier(name)
  await server.sql(`CREATE TABLESPACE ${space} LOCATION ${escapeLiteral(folder)}`)
  const table = escapeIdentifier(`in ${name}`)
  await server.sql(`CREATE TABLE ${table} TABLESPACE ${space} AS SELECT generate_series(1, 1000) AS n`)
}

async function occupied(folder: string): Promise<string> {
  await labFolder(placeOf(folder))
  await writeFile(join(placeOf(folder), 'precious'), 'data')
  expect(await readdir(placeOf(folder))).toEqual(['precious'])
  return folder
}

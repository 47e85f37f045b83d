import { existsSync } from 'node:fs'
import { rename, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { escapeLiteral } from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import type { RestoreResult } from '../../src/restore/restore-cluster.ts'
import {
  answerOf,
  backUp,
  failureOf,
  folderOfPrograms,
  labFolder,
  type RestoreAnswer,
  restoreTo,
} from '../backup/commands.ts'
import { type TableChecksum, tableChecksums } from '../lab/checksums.ts'
import type { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { findPrograms, requireServer } from '../lab/programs.ts'
import { asLabUser } from '../lab/user.ts'

const PROGRAMS = ['sh', 'tar', 'zstd', 'find', 'mkdir', 'chmod', 'ln', 'ls', 'cat', 'cp', 'mv', 'rm', 'touch']
const COMBINING = ['dirname', 'awk', 'dd', 'od', 'sed', 'truncate']

let lab: Lab
let chain: BackupRecord[]
let before: TableChecksum[]
let inOther: TableChecksum[]

const place = (name: string) => join(lab.scratch.path, name)
const spaceFor = (name: string) => ['--tablespace', `space=${place(`${name}-space`)}`]
const folderOf = (backup: BackupRecord) => join(lab.repository, 'main/backups', backup.id)

async function start(directory: string): Promise<Cluster> {
  const server = await lab.adopt(directory, { settings: { archive_mode: 'off' } })
  await server.start()
  await server.waitForPromotion()
  return server
}

async function requireRestored(directory: string): Promise<void> {
  const server = await start(directory)
  expect(await tableChecksums(server)).toEqual(before)
  expect(await tableChecksums(server, 'other')).toEqual(inOther)
  await server.run('pg_amcheck', ['--all', '--install-missing', '--heapallindexed'])
  await server.stop()
  await server.run('pg_checksums', ['--check', '-D', directory])
}

/** The rows, the lengths and the lists of files change between two links. */
const ROUNDS = [
  [
    'UPDATE numbers SET n = -n WHERE n % 5000 = 0',
    'DELETE FROM cut WHERE n > 100',
    'VACUUM cut',
    'TRUNCATE emptied',
    'DROP TABLE dropped',
    'INSERT INTO elsewhere SELECT generate_series(1, 5000)',
  ],
  [
    'INSERT INTO cut SELECT generate_series(1, 30000)',
    'INSERT INTO emptied SELECT generate_series(1, 100)',
    'CREATE TABLE made AS SELECT generate_series(1, 1000) AS n',
    'UPDATE numbers SET n = -n WHERE n % 7000 = 0',
  ],
]

describe.skipIf(!findPrograms() && !process.env.CI)('the restore of a chain', () => {
  beforeAll(async () => {
    lab = await Lab.create()
    const { cluster } = lab
    const location = await labFolder(place('space'))
    await cluster.sql(`CREATE TABLESPACE space LOCATION ${escapeLiteral(location)}`)
    await cluster.sql('CREATE DATABASE other')
    for (const database of ['postgres', 'other']) {
      for (const table of ['numbers', 'cut', 'emptied', 'dropped']) {
        await cluster.sql(`CREATE TABLE ${table} AS SELECT generate_series(1, 50000) AS n`, { database })
      }
      await cluster.sql('CREATE INDEX ON numbers (n)', { database })
      await cluster.sql('CREATE TABLE elsewhere TABLESPACE space AS SELECT 1 AS n', { database })
    }
    chain = [await backUp(lab, ['--type', 'full'])]
    for (const round of ROUNDS) {
      for (const statement of round) {
        for (const database of ['postgres', 'other']) await cluster.sql(statement, { database })
      }
      await cluster.sql('CHECKPOINT')
      chain.push(await backUp(lab, ['--type', 'incr']))
    }
    for (const database of ['postgres', 'other']) {
      await cluster.sql('UPDATE numbers SET n = n + 1 WHERE n % 9000 = 0', { database })
    }
    before = await tableChecksums(cluster)
    inOther = await tableChecksums(cluster, 'other')
    await cluster.archiveWal()
  })
  beforeEach((context) => void requireServer(context))
  afterAll(() => lab?.[Symbol.asyncDispose]())

  test('is one step, with a manifest of what is there then, and a plan that shows the chain', async () => {
    expect(chain.map(({ type }) => type)).toEqual(['full', 'incr', 'incr'])
    const args = ['restore', '-D', place('whole'), ...spaceFor('whole')]
    const { stdout } = await lab.pgrecall([...args, '--dry-run'])
    expect(stdout).toContain(`Chain     ${chain[0]!.id} (full, stored `)
    expect(stdout).toContain(`        + ${chain[1]!.id} (incr, stored `)
    expect(stdout).toContain(`        + ${chain[2]!.id} (incr, stored `)
    const answer = await answerOf<RestoreAnswer & RestoreResult>(lab, args)
    expect(answer.plan.chain.map(({ id }) => id)).toEqual(chain.map(({ id }) => id))
    expect(answer.bytes).toBe(chain[2]!.clusterBytes)
    expect(answer.files).toBe(chain[2]!.files)
    await lab.cluster.run('pg_verifybackup', ['-n', place('whole')])
    await requireRestored(place('whole'))
  })

  test('goes to a moment between two links', async () => {
    const directory = await restoreTo(lab, 'between', [chain[1]!.id, '--immediate', ...spaceFor('between')])
    await lab.cluster.run('pg_verifybackup', ['-n', directory])
  })

  test('goes over an older state of the cluster with --delta', async () => {
    const directory = await restoreTo(lab, 'older', [chain[0]!.id, ...spaceFor('older')])
    const args = ['restore', '--delta', '-D', directory, ...spaceFor('older')]
    const { delta, bytes } = await answerOf<Required<RestoreResult>>(lab, args)
    expect(delta.keptBytes).toBeGreaterThan(bytes * 0.5)
    await lab.cluster.run('pg_verifybackup', ['-n', directory])
    await requireRestored(directory)
  })

  test('leaves databases out', async () => {
    const directory = place('partial')
    const args = ['restore', '-D', directory, ...spaceFor('partial'), '--exclude-database', 'other']
    await answerOf(lab, args)
    const server = await start(directory)
    expect(await tableChecksums(server)).toEqual(before)
    await server.sql('DROP DATABASE other')
    await server.run('pg_amcheck', ['--all', '--install-missing'])
    await server.stop()
    await server.run('pg_checksums', ['--check', '-D', directory])
  })

  test('by hand, with standard tools, gives the same cluster', async () => {
    const path = await folderOfPrograms(lab.scratch, [...PROGRAMS, ...COMBINING])
    const last = chain.at(-1)!
    const directory = place('by hand')
    const { exitCode, stderr } = await execa('sh', [join(folderOf(last), 'RESTORE.txt')], {
      ...asLabUser,
      cwd: lab.scratch.path,
      env: {
        PATH: path,
        DATA: directory,
        [`TABLESPACE_${last.tablespaces[0]!.oid}`]: place('by hand-space'),
      },
      extendEnv: false,
      reject: false,
    })
    expect([exitCode, stderr]).toEqual([0, ''])
    await requireRestored(directory)
  })

  test('by hand, with pg_combinebackup, gives the same cluster', async (context) => {
    if ((findPrograms()?.major ?? 0) < 17) return context.skip('pg_combinebackup came with 17')
    const oid = chain[0]!.tablespaces[0]!.oid
    for (const [index, link] of chain.entries()) {
      const env = {
        DATA: place(`link${index}`),
        [`TABLESPACE_${oid}`]: place(`link${index}-space`),
        ONLY: 'link',
      }
      await execa('sh', [join(folderOf(link), 'RESTORE.txt')], { ...asLabUser, cwd: lab.scratch.path, env })
    }
    const directory = place('combined')
    const links = chain.map((_, index) => place(`link${index}`))
    const moved = `--tablespace-mapping=${place('link2-space')}=${place('combined-space')}`
    await lab.cluster.run('pg_combinebackup', [...links, moved, '-o', directory])
    await lab.cluster.run('pg_verifybackup', ['-n', directory])
  })

  test('is refused before anything is written when an object of any link is damaged', async () => {
    for (const link of chain) {
      const shard = join(folderOf(link), link.objects.find(({ kind }) => kind === 'shard')!.name)
      const { size } = await stat(shard)
      await rename(shard, `${shard}.aside`)
      const failure = await failureOf(lab, ['restore', '-D', place('damaged'), ...spaceFor('damaged')])
      expect(failure).toMatchObject({ kind: 'damaged' })
      expect(failure.message).toContain(link.id)
      await rename(`${shard}.aside`, shard)
      expect((await stat(shard)).size).toBe(size)
    }
    expect(existsSync(place('damaged'))).toBe(false)
  })

  test('of which a link is missing is passed over, and refused when it is asked for', async () => {
    const aside = `${folderOf(chain[1]!)}.aside`
    await rename(folderOf(chain[1]!), aside)
    const args = ['--dry-run', '-D', place('unmade'), ...spaceFor('unmade')]
    const { stdout, stderr, exitCode } = await lab.pgrecall(['restore', ...args])
    expect(exitCode).toBe(0)
    expect(stdout).toContain(`Backup    ${chain[0]!.id}`)
    expect(stderr).toContain(`the newer backup ${chain[2]!.id} is passed over: ${chain[1]!.id}`)
    const failure = await failureOf(lab, ['restore', chain[2]!.id, ...args])
    expect(failure).toMatchObject({ kind: 'damaged' })
    expect(failure.message).toContain(chain[1]!.id)
    await rename(aside, folderOf(chain[1]!))
  })
})

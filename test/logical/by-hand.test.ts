import { truncate } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { execa } from 'execa'
import { beforeEach, expect, test } from 'vitest'
import type { LogicalRecord } from '../../src/catalog/logical-record.ts'
import { answerOf, labFolder } from '../backup/commands.ts'
import { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { newKey } from '../lab/lab-repository.ts'
import { requireServer } from '../lab/programs.ts'

beforeEach((context) => void requireServer(context))

const LOGICAL = ['backup', '--method', 'logical']

const folderOf = (lab: Lab, { id }: LogicalRecord) => join(lab.repository, 'main/backups', id)

/** Runs a backup's RESTORE.txt against a server. */
function runScript(lab: Lab, record: LogicalRecord, target: Cluster, more: Record<string, string> = {}) {
  const { env, ...options } = target.childOptions
  const PATH = `${dirname(target.programs.path('psql'))}:${env.PATH}`
  return execa('sh', [join(folderOf(lab, record), 'RESTORE.txt')], {
    ...options,
    env: { ...env, ...more, PATH },
    reject: false,
  })
}

const countOf = async (cluster: Cluster, database: string) =>
  (await cluster.sql<{ n: number }>('SELECT count(*)::int AS n FROM orders', { database }))[0]!.n

test('RESTORE.txt restores all into an empty server, encrypted and staged too, and its exit code tells what failed', async () => {
  await using lab = await Lab.create({ archive: false })
  const key = await newKey(lab.scratch)
  await lab.writeConfiguration(({ repositories }) => {
    repositories.local!.encryption = { recipients: key.recipients }
  })
  await lab.cluster.sql('CREATE ROLE anna; CREATE TABLE orders AS SELECT 1 AS i')
  await lab.cluster.sql(`CREATE DATABASE "it's shop" OWNER anna`)
  await lab.cluster.sql('CREATE TABLE orders AS SELECT g FROM generate_series(1, 5000) AS g', {
    database: "it's shop",
  })
  const IDENTITY = key.identityFile
  const staging = await labFolder(join(lab.scratch.path, 'staging'))
  for (const how of [[], ['--staging', staging]]) {
    const record = await answerOf<LogicalRecord>(lab, [...LOGICAL, ...how])
    await using target = await Cluster.create()
    const { exitCode, stderr } = await runScript(lab, record, target, { IDENTITY })
    // The role that made the cluster is there.
    expect(stderr.split('\n').filter((line) => /error|ERROR/.test(line))).toEqual([
      expect.stringMatching(/role "\w+" already exists/),
    ])
    expect(exitCode).toBe(0)
    expect([await countOf(target, 'postgres'), await countOf(target, "it's shop")]).toEqual([1, 5000])
    const [owner] = await target.sql(
      `SELECT pg_get_userbyid(datdba) AS owner FROM pg_database WHERE datname LIKE '%shop'`,
    )
    expect(owner).toEqual({ owner: 'anna' })
    // Everything is there already.
    expect((await runScript(lab, record, target, { IDENTITY })).exitCode).toBe(1)
    const { name, bytes } = record.objects.find(({ kind }) => kind === 'globals')!
    await truncate(join(folderOf(lab, record), name), bytes - 1)
    await using empty = await Cluster.create()
    const cut = await runScript(lab, record, empty, { IDENTITY })
    expect(cut.exitCode).toBe(1)
    expect(cut.stderr).toContain(`${name} could not be read`)
    expect(await countOf(empty, 'postgres')).toBe(1)
  }
}, 180_000)

test('RESTORE.txt of a selection says what that is, and wants a database that exists', async () => {
  await using lab = await Lab.create({ archive: false })
  await lab.cluster.sql('CREATE TABLE orders AS SELECT 1 AS i; CREATE TABLE others AS SELECT 1 AS i')
  await lab.cluster.sql('CREATE DATABASE beside')
  await lab.cluster.sql('CREATE TABLE orders (i int)', { database: 'beside' })
  const record = await answerOf<LogicalRecord>(lab, [
    ...LOGICAL,
    ...['--database', 'postgres', '--table', 'orders', '--data-only', '--no-globals'],
  ])
  const unnamed = await runScript(lab, record, lab.cluster)
  expect(unnamed.exitCode).not.toBe(0)
  expect(unnamed.stderr).toContain('say into which database that exists the dump of postgres goes')
  expect(await runScript(lab, record, lab.cluster, { DATABASE: 'beside' })).toMatchObject({ exitCode: 0 })
  expect([await countOf(lab.cluster, 'postgres'), await countOf(lab.cluster, 'beside')]).toEqual([1, 1])
  const text = await execa('cat', [join(folderOf(lab, record), 'RESTORE.txt')])
  expect(text.stdout).toContain('#   selection   --table orders --data-only\n')
})

import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { beforeEach, expect, test } from 'vitest'
import type { LogicalRecord } from '../../src/catalog/logical-record.ts'
import { fingerprintsOf, type TableFingerprint } from '../../src/logical/fingerprint.ts'
import { compareFingerprints } from '../../src/logical/fingerprint-compare.ts'
import { Server } from '../../src/postgres/server.ts'
import { answerOf, failureOf, labFolder } from '../backup/commands.ts'
import type { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'

beforeEach((context) => void requireServer(context))

const LOGICAL = ['backup', '--method', 'logical']

async function fingerprints({ host, port, user }: Cluster, database: string): Promise<TableFingerprint[]> {
  await using server = await Server.connect({ host, port, user, database })
  return await Array.fromAsync(fingerprintsOf(server, { signal: new AbortController().signal }))
}

async function linesOf<Line>(file: string): Promise<Line[]> {
  const { stdout } = await execa('zstd', ['-dc', file])
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Line)
}

test('several sessions dump a database into a folder of its own, which is stored as a tar and removed', async () => {
  await using lab = await Lab.create()
  await lab.cluster.sql(
    `CREATE TABLE a AS SELECT g AS i, md5(g::text) AS x FROM generate_series(1, 5000) AS g; CREATE TABLE b AS TABLE a;
     CREATE TABLE "ö d""d" (i serial); INSERT INTO "ö d""d" VALUES (5); SELECT lo_from_bytea(0, '\\x01')`,
  )
  const staging = await labFolder(join(lab.scratch.path, 'staging'))
  const record = await answerOf<LogicalRecord>(
    lab,
    [...LOGICAL, '--staging', 'staging', '--jobs', '3', '--fingerprint'],
    { cwd: lab.scratch.path },
  )
  expect(await readdir(staging)).toEqual([])
  const dump = record.objects.find(({ kind }) => kind === 'dump')!
  expect(dump).toMatchObject({ archive: 'directory', name: expect.stringMatching(/^postgres\.dir\.tar/) })
  expect(record.databases[0]!.contents).toMatchObject({ TABLE: 3, 'TABLE DATA': 3 })

  const folder = join(lab.repository, 'main/backups', record.id)
  const unpacked = await lab.scratch.folder('unpacked')
  await execa('tar', ['-xf', join(folder, dump.name), '-C', unpacked])
  await execa('chmod', ['-R', 'a+rX', unpacked])
  await lab.cluster.sql('CREATE DATABASE back TEMPLATE template0')
  await lab.cluster.run('pg_restore', ['-d', 'back', '-j', '2', unpacked])
  const recorded = await linesOf<TableFingerprint & { database: string }>(
    join(folder, record.objects.find(({ kind }) => kind === 'fingerprint')!.name),
  )
  expect(recorded.map(({ database, name, rows }) => [database, name, rows])).toEqual([
    ['postgres', 'a', 5000],
    ['postgres', 'b', 5000],
    ['postgres', 'ö d"d', 1],
    ['postgres', 'ö d"d_i_seq', undefined],
    ['postgres', undefined, 1],
  ])
  expect(compareFingerprints(recorded, await fingerprints(lab.cluster, 'back'))).toEqual([])
  await lab.cluster.sql(`UPDATE b SET x = '' WHERE i = 1`, { database: 'back' })
  expect(compareFingerprints(recorded, await fingerprints(lab.cluster, 'back'))).toMatchObject([
    { kind: 'content', recorded: { name: 'b' } },
  ])
})

test('only what was dumped is counted, as of the same moment', async () => {
  await using lab = await Lab.create()
  await lab.cluster.sql('CREATE TABLE a AS SELECT 1 AS i; CREATE TABLE b AS SELECT 1 AS i')
  const record = await answerOf<LogicalRecord>(lab, [...LOGICAL, '--table', 'b', '--fingerprint'])
  const { name } = record.objects.find(({ kind }) => kind === 'fingerprint')!
  expect(await linesOf(join(lab.repository, 'main/backups', record.id, name))).toEqual([
    {
      database: 'postgres',
      kind: 'table',
      schema: 'public',
      name: 'b',
      rows: 1,
      content: expect.any(String),
    },
  ])
})

test('a folder that is not there is refused before anything is dumped, and so is what --whole cannot do', async () => {
  await using lab = await Lab.create()
  expect(await failureOf(lab, [...LOGICAL, '--staging', '/nowhere'])).toMatchObject({
    kind: 'refused',
    message: expect.stringMatching(/^nothing can be staged in \/nowhere: /),
  })
  for (const option of [['--staging', '/'], ['--fingerprint'], ['--no-globals']])
    expect(await failureOf(lab, [...LOGICAL, '--whole', ...option])).toMatchObject({ kind: 'usage' })
  expect(await failureOf(lab, ['backup', '--fingerprint'])).toMatchObject({ kind: 'usage' })
})

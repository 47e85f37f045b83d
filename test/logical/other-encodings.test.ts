import { join } from 'node:path'
import { execa } from 'execa'
import { beforeEach, expect, test } from 'vitest'
import type { LogicalRecord } from '../../src/catalog/logical-record.ts'
import type { RecordedFingerprint } from '../../src/logical/fingerprint-object.ts'
import { answerOf } from '../backup/commands.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'

beforeEach((context) => void requireServer(context))

const BACKUP = ['backup', '--method', 'logical', '--fingerprint']

test.each([
  { encoding: 'LATIN1', table: 'Käse', more: [] },
  { encoding: 'EUC_JP', table: '日本', more: [] },
  { encoding: 'WIN1251', table: 'сыр', more: ['--staging', 'staging', '--jobs', '2'] },
])(
  'names of a database in $encoding are read as what they are, and can be chosen by',
  async ({ encoding, table, more }) => {
    await using lab = await Lab.create()
    const { cluster, scratch } = lab
    await scratch.folder('staging')
    await cluster.sql(`CREATE DATABASE old TEMPLATE template0 ENCODING '${encoding}' LOCALE 'C'`)
    // Neither a role's setting nor the environment says how an archive is written.
    await cluster.sql(`ALTER ROLE postgres IN DATABASE old SET client_encoding = 'UTF8'`)
    await cluster.sql(`CREATE TABLE "${table}" AS SELECT '${table}'::text AS name`, { database: 'old' })
    const at = { cwd: scratch.path, env: { PGCLIENTENCODING: 'UTF8' } }

    const { id, objects } = await answerOf<LogicalRecord>(lab, [...BACKUP, '--database', 'old', ...more], at)

    const contents = await answerOf<{ contents: unknown }>(lab, ['show', id, '--contents'])
    expect(JSON.stringify(contents)).toContain(`"name":"${table}"`)
    const { name } = objects.find(({ kind }) => kind === 'fingerprint')!
    const { stdout } = await execa('zstd', ['-dc', join(lab.repository, 'main/backups', id, name)])
    const fingerprints = stdout.split('\n').map((line) => JSON.parse(line) as RecordedFingerprint)
    expect(fingerprints).toMatchObject([{ name: table, rows: 1 }])
    await answerOf(
      lab,
      ['restore', id, '--database', 'old', '--table', table, '--into', 'beside', ...more.slice(0, 2)],
      at,
    )
    expect(await cluster.sql(`SELECT name FROM "${table}"`, { database: 'beside' })).toEqual([
      { name: table },
    ])
  },
)

test('names with spaces are told apart', async () => {
  await using lab = await Lab.create()
  await lab.cluster.sql(`CREATE ROLE "a b"; CREATE SCHEMA "s t" AUTHORIZATION "a b"; CREATE TABLE "s t"."u v" (i int);
                         ALTER TABLE "s t"."u v" OWNER TO "a b"`)
  const { id } = await answerOf<LogicalRecord>(lab, [...BACKUP, '--table', '"s t".*'])
  const { contents } = await answerOf<{ contents: { schema?: string }[] }>(lab, ['show', id, '--contents'])
  const names = { schema: 's t', name: 'u v', owner: 'a b' }
  expect(contents.filter(({ schema }) => schema !== undefined)).toMatchObject([
    { type: 'TABLE', ...names },
    { type: 'TABLE DATA', ...names },
  ])
})

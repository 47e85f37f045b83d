import { beforeEach, expect, test } from 'vitest'
import type { LogicalRecord } from '../../src/catalog/logical-record.ts'
import { answerOf } from '../backup/commands.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'

beforeEach((context) => void requireServer(context))

const ODD = ['a b', `quo"te'`, '=x', 'postgres://h/y', 'ünï', 'back\\slash']

test('every database is dumped as it is, whatever its name', async () => {
  await using lab = await Lab.create()
  for (const name of ODD) {
    await lab.cluster.sql(`CREATE DATABASE "${name.replaceAll('"', '""')}"`)
    await lab.cluster.sql('CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10)', {
      database: name,
    })
  }
  await lab.cluster.sql('CREATE DATABASE half')
  // As an interrupted DROP DATABASE leaves it.
  await lab.cluster.sql(`UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half'`)
  const record = await answerOf<LogicalRecord>(lab, ['backup', '--method', 'logical'])
  expect(record.warnings).toEqual([expect.stringContaining('"half" is what an interrupted DROP DATABASE')])
  expect(record.databases.map(({ name }) => name).toSorted()).toEqual([...ODD, 'postgres'].toSorted())
  expect(record.databases.find(({ name }) => name === 'a b')?.contents).toMatchObject({
    TABLE: 1,
    'TABLE DATA': 1,
  })
  const [{ logical }] = (await answerOf<{ logical: LogicalRecord[] }[]>(lab, ['list'])) as [
    { logical: LogicalRecord[] },
  ]
  expect(logical.map(({ id }) => id)).toEqual([record.id])
  expect(record).not.toHaveProperty('choice')
})

test('which databases were asked for is recorded', async () => {
  await using lab = await Lab.create()
  const args = ['backup', '--method', 'logical', '--database', 'post*', '--exclude-database', 'none*']
  const record = await answerOf<LogicalRecord>(lab, args)
  expect(record).toMatchObject({
    choice: { databases: ['post*'], excludeDatabases: ['none*'] },
    warnings: ['no database is called "none*", so there was none to leave out'],
  })
  expect((await lab.pgrecall(['show', 'latest'])).stdout).toMatch(
    /Databases +--database post\* --exclude-database none\*\n/,
  )
})

import { beforeEach, expect, test } from 'vitest'
import { requireUnmoved } from '../../src/backup/moved-databases.ts'
import { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { requireServer } from '../lab/programs.ts'
import { listedBackups } from './commands.ts'

beforeEach((context) => void requireServer(context))

test.each([
  ['moved', ['space']],
  ['moved there and back', ['space', 'pg_default']],
])('a database that is %s while a backup is taken voids it', async (_how, places) => {
  await using lab = await Lab.create()
  const { cluster } = lab
  await cluster.sql(`CREATE TABLESPACE space LOCATION '${await lab.scratch.folder('space')}'`)
  await cluster.sql('CREATE DATABASE moving')
  const { process: running } = await lab.startPgrecall(['backup', '--max-rate', '8MB'])
  let words = ''
  running.stderr?.on('data', (chunk) => {
    words += chunk
  })
  // The checkpoint of the backup is over when a process waits between start and stop.
  await poll(
    async () =>
      (
        await cluster.sql(`SELECT FROM pg_stat_activity WHERE query LIKE '%pg_database ORDER BY%'
     AND application_name = 'pgrecall' AND state = 'idle'`)
      ).length > 0,
    { what: 'the copy to begin' },
  )
  for (const place of places) await cluster.sql(`ALTER DATABASE moving SET TABLESPACE ${place}`)
  const { exitCode } = await running
  expect(exitCode).toBe(11)
  expect(words).toContain('the database "moving" was moved to another tablespace during the backup')
  expect(await listedBackups(lab)).toEqual([])
})

test('databases that come, go or get another name are no such thing', () => {
  const database = (oid: string, name: string, tablespace = '1663') => ({ oid, name, tablespace })
  const before = [database('5', 'postgres'), database('16384', 'gone'), database('16385', 'old')]
  const after = [database('5', 'postgres'), database('16385', 'new'), database('16386', 'made', '16400')]
  expect(requireUnmoved(before, after)).toEqual([
    { oid: '5', name: 'postgres' },
    { oid: '16385', name: 'new' },
    { oid: '16386', name: 'made' },
  ])
})

import { beforeEach, expect, test } from 'vitest'
import { Lab } from '../lab/lab.ts'
import { poll } from '../lab/poll.ts'
import { requireServer } from '../lab/programs.ts'
import { backUp, recover } from './commands.ts'

beforeEach((context) => void requireServer(context))

test('a page that became all-visible without a new LSN makes no wrong answers after a restore', async () => {
  await using lab = await Lab.create({ checksums: false })
  const { cluster } = lab
  await cluster.sql('CREATE TABLE rows (id int PRIMARY KEY, text text) WITH (autovacuum_enabled = false)')
  await cluster.sql(`INSERT INTO rows SELECT n, 'row' FROM generate_series(1, 1000) n`)
  await cluster.sql('CHECKPOINT')
  await backUp(lab)
  // All pages get the flag, and keep their LSN; the map has their bits.
  await cluster.sql('VACUUM rows')
  const record = await backUp(lab, ['--type', 'incr'])
  const { id } = await backUp(lab, ['--type', 'incr'])
  if (record.increment?.source === 'page-lsns') expect(record.withoutVisibilityMaps).toBe(true)
  await using server = await recover(lab, 'restored', [id, '--target-action', 'promote'])
  const isOver = async () => {
    const [row] = await server.sql<{ recovers: boolean }>('SELECT pg_is_in_recovery() AS recovers')
    return row?.recovers === false
  }
  await poll(isOver, { what: 'the end of the recovery' })
  // A page without the flag does not clear its bit of the map.
  await server.sql('DELETE FROM rows WHERE id % 2 = 0')
  const count = async (...settings: string[]) => {
    const off = settings.map((name) => `SET enable_${name} = off`).join('; ')
    return (await server.sql(`${off}; SELECT count(*)::int AS rows FROM rows WHERE id > 0`)).at(-1)
  }
  await server.sql('ANALYZE rows')
  expect(await count('seqscan', 'bitmapscan')).toEqual({ rows: 500 })
  expect(await count('indexscan', 'indexonlyscan', 'bitmapscan')).toEqual({ rows: 500 })
})

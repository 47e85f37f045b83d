import { expect, test } from 'vitest'
import { withoutLaterSettings } from '../../src/logical/restore-older-server.ts'
import { archiveScript, pgRestore } from '../../src/postgres/pg-restore.ts'
import { runScript } from '../../src/postgres/psql.ts'
import { Cluster } from '../lab/cluster.ts'
import { archiveOf, env, inPieces, placeOf } from '../postgres/dump-lab.ts'
import { installed } from './restore-lab.ts'

const SCRIPT = `SET lock_timeout = 0;
SET transaction_timeout = 0;
COPY public.t (a) FROM stdin;
SET transaction_timeout = 0;
\\.

SET transaction_timeout = 0;
SELECT 1;`

const EXPECTED = `SET lock_timeout = 0;
COPY public.t (a) FROM stdin;
SET transaction_timeout = 0;
\\.

SELECT 1;`

test.each([1, 2, 7, 30, 1000])('a setting goes, and a row stays, in pieces of %i bytes', async (size) => {
  const bytes = Buffer.from(SCRIPT)
  const pieces = async function* () {
    for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
  }
  const kept = await Array.fromAsync(withoutLaterSettings(pieces()))
  expect(Buffer.concat(kept).toString()).toBe(EXPECTED)
})

test('a program of 17 restores into 15 without an error, also as a script', async (context) => {
  const [old, newer] = [installed(15), installed(17)]
  if (!old || !newer) return context.skip('run "sh scripts/postgres.sh 15" and "... 17" first')
  await using cluster = await Cluster.create({ programs: old })
  await cluster.sql('CREATE TABLE t AS SELECT 1 AS n')
  for (const database of ['one', 'two']) await cluster.sql(`CREATE DATABASE ${database}`)
  const bytes = await archiveOf(cluster)
  const program = { path: newer.path('pg_restore'), majorVersion: 17 }
  const { signal } = new AbortController()
  const options = { signal, onMessage: () => {} }
  const into = { ...options, connection: placeOf(cluster, 'one') }
  expect(await pgRestore(program, env, into, inPieces(bytes))).toEqual({ count: 0, samples: [] })
  const script = withoutLaterSettings(archiveScript(program, env, { signal }, inPieces(bytes)))
  const psql = { path: newer.path('psql'), majorVersion: 17 }
  const once = { ...options, connection: placeOf(cluster, 'two'), stopOnError: true, singleTransaction: true }
  expect((await runScript(psql, env, once, script)).count).toBe(0)
  for (const database of ['one', 'two'])
    expect(await cluster.sql('SELECT * FROM t', { database })).toEqual([{ n: 1 }])
})

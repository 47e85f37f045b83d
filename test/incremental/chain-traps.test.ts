import { describe, expect, test } from 'vitest'
import { findPrograms } from '../lab/programs.ts'
import { ChainRun } from './chain-run.ts'
import type { ChaosPlan, Ground, Link } from './chaos-plan.ts'
import { createTable, insert } from './table-statements.ts'
import { type Step, sql, type Table } from './world.ts'

const GROUND: Ground = {
  checksums: true,
  walLogHints: true,
  walSegmentMegabytes: 16,
  sharedBuffers: '8MB',
  summarize: false,
  tablespaces: ['ts1'],
  encrypted: false,
  codec: 'zstd:1',
}

const POSTGRES = { name: 'postgres' }
const major = findPrograms()?.major ?? 0

/** What a random workload meets too seldom, each as a chain of its own. */
describe.skipIf(major === 0 && !process.env.CI)(
  'a chain of backups has what the server had',
  { timeout: 600_000 },
  () => {
    test.runIf(major >= 15).each(['wal_log', 'file_copy'])(
      'when a database was replaced by another one of the same oid, with %s',
      async (strategy) => {
        const create = (template: string) =>
          `CREATE DATABASE made TEMPLATE ${template} STRATEGY ${strategy} OID 7000001`
        const made = { name: 'made' }
        // What is in the catalogs of the second one is older than the backup of the first.
        await requireRight([
          [
            alone(create('template1')),
            sql(made, ...Array.from({ length: 40 }, (_, n) => `CREATE TABLE filler${n} (n int)`)),
            sql(made, 'CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n'),
          ],
          [alone('DROP DATABASE made', create('template1'))],
          [sql(made, 'CREATE TABLE other (n int)')],
          [alone('DROP DATABASE made', create('third'))],
        ])
      },
    )

    test('when a database went to another tablespace, and came back', async () => {
      const third = { name: 'third' }
      const table: Table = { name: 't1', nextId: 1, logged: true }
      const move = (place: string) => alone(`ALTER DATABASE third SET TABLESPACE ${place}`)
      await requireRight(
        [
          [sql(third, ...createTable(table, { fillfactor: 70 }), insert(table, 2000))],
          [move('ts1'), sql(third, 'UPDATE t1 SET part = 11 WHERE id % 100 = 1')],
          [move('pg_default'), sql(third, 'UPDATE t1 SET part = 12 WHERE id % 100 = 2')],
          [move('ts1'), move('pg_default')],
        ],
        ['full', 'incr', 'diff', 'incr'],
      )
    })

    test('when a table was cut and grew again, in one link and over several', async () => {
      const table: Table = { name: 't1', nextId: 1, logged: true }
      const rows = (first: number, count: number) => insert({ ...table, nextId: first }, count)
      const cut = ['DELETE FROM t1 WHERE id > 300', 'VACUUM (TRUNCATE ON) t1']
      await requireRight([
        [sql(POSTGRES, ...createTable(table, { fillfactor: 70 }), rows(1, 3000))],
        [sql(POSTGRES, ...cut, rows(5000, 1000))],
        [sql(POSTGRES, ...cut)],
        [sql(POSTGRES, rows(7000, 3000))],
        [sql(POSTGRES, 'TRUNCATE t1', rows(1, 10))],
      ])
    })

    test('when a table has two segments, is cut to a part of the first one, and grows again', async () => {
      const fill = (first: number) =>
        `INSERT INTO big SELECT i, repeat(md5(i::text), 20) FROM generate_series(${first}, ${first + 2000}) i`
      const extended: Step = { kind: 'extend', database: 'postgres', table: 'big' }
      const some = sql(POSTGRES, 'UPDATE big SET word = md5(word) WHERE id % 100 = 1')
      const rows = 'CREATE TABLE big (id bigint PRIMARY KEY, word text)'
      await requireRight([
        [sql(POSTGRES, rows, fill(1)), extended, sql(POSTGRES, fill(10_000))],
        [some],
        [sql(POSTGRES, 'DELETE FROM big WHERE id > 1000', 'VACUUM (TRUNCATE ON) big'), some],
        [extended, sql(POSTGRES, fill(20_000)), some],
      ])
    })

    test('when a standby took over that did not have all of the last backup', async () => {
      const table: Table = { name: 't1', nextId: 1, logged: true }
      const begin = [sql(POSTGRES, ...createTable(table, { fillfactor: 70 }), insert(table, 2000))]
      const lost = [sql(POSTGRES, 'UPDATE t1 SET part = 13', 'CREATE TABLE lost (n int)', 'CHECKPOINT')]
      const kept = [sql(POSTGRES, 'UPDATE t1 SET part = 14 WHERE id % 3 = 0', 'CREATE TABLE kept (n int)')]
      const links = linksOf([begin, lost, kept, []])
      links[1]!.spare = true
      links[2]!.failover = 'lagging standby'
      await requireAllRight({ seed: 0, ground: GROUND, furnishing: [], links })
    })
  },
)

function alone(...statements: string[]): Step {
  return { kind: 'sql', database: 'postgres', statements, closes: ['made', 'third', 'template1'] }
}

function linksOf(steps: Step[][], types: Link['type'][] = []): Link[] {
  return steps.map((steps, at) => ({
    spare: false,
    steps,
    method: 'files',
    type: types[at] ?? (at === 0 ? 'full' : 'incr'),
    jobs: 2,
    checkpoint: 'fast',
    during: [],
    pgbench: false,
    prepared: false,
    delta: false,
  }))
}

/** Without WAL summaries, as before 17, the pages tell what has changed. */
async function requireRight(steps: Step[][], types?: Link['type'][]): Promise<void> {
  const ground = { ...GROUND, summarize: major >= 17 }
  await requireAllRight({ seed: 0, ground, furnishing: [], links: linksOf(steps, types) })
}

async function requireAllRight(plan: ChaosPlan): Promise<void> {
  await using run = await ChainRun.begin(plan)
  for (const at of plan.links.keys()) {
    expect({ link: at, problems: await run.link(at) }).toEqual({ link: at, problems: [] })
  }
}

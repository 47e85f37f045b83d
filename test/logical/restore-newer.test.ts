import { expect, test } from 'vitest'
import type { LogicalRecord } from '../../src/catalog/logical-record.ts'
import { answerOf } from '../backup/commands.ts'
import { Cluster } from '../lab/cluster.ts'
import { Lab } from '../lab/lab.ts'
import { makeManyDatabases } from './many-databases.ts'
import { installed, targetOf } from './restore-lab.ts'

const COUNTED: [database: string, table: string][] = [
  ['a b', 'customer'],
  ['a b', 'part'],
  ['a b', 'counted'],
  [`quo"te'`, 'hen'],
  ['ünï', '"tä ble"'],
  ['latin', 't'],
  ['bytes', 't'],
]

async function counts(cluster: Cluster): Promise<unknown[]> {
  const found: unknown[] = []
  for (const [database, table] of COUNTED)
    found.push(
      ...(await cluster.sql(`SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) AS sum FROM ${table} t`, {
        database,
      })),
    )
  return found
}

test.for([15, 17, 18])('a dump of a 14 server goes into %i', async (version, context) => {
  const [old, newer] = [installed(14), installed(version)]
  if (!old || !newer) return context.skip(`run "sh scripts/postgres.sh 14" and "... ${version}" first`)
  await using lab = await Lab.create({ archive: false, programs: old, settings: { wal_level: 'logical' } })
  await makeManyDatabases(lab.cluster)
  const { id } = await answerOf<LogicalRecord>(lab, ['backup', '--method', 'logical'])
  await using target = await Cluster.create({
    programs: newer,
    within: lab.scratch,
    name: 'target',
    settings: { wal_level: 'logical' },
  })
  expect(await answerOf(lab, ['restore', id, ...targetOf(target)])).toMatchObject({ errors: 0 })
  expect(await counts(target)).toEqual(await counts(lab.cluster))
})

import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import type { LogicalRecord } from '../../src/catalog/logical-record.ts'
import type { VerifiedBackup } from '../../src/verification/verify-repository.ts'
import { answerOf, backUp } from '../backup/commands.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'

/** Its configuration has a second repository, which is encrypted and which nobody but `copy` writes. */
let lab: Lab
beforeAll(async () => {
  lab = await Lab.create()
  await lab.cluster.sql('CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 1000)')
})
beforeEach((context) => void requireServer(context))
afterAll(() => lab?.[Symbol.asyncDispose]())

test('a logical backup lives beside a physical one: listed, watched, copied, verified, and removed by its own rule', async () => {
  const dump = () => answerOf<LogicalRecord>(lab, ['backup', '--method', 'logical'])
  const first = await dump()
  const full = await backUp(lab)
  const last = await dump()

  const [state] = await answerOf<{ newestBackup: { id: string }; newestLogical: { id: string } }[]>(lab, [
    'status',
  ])
  expect(state).toMatchObject({ newestBackup: { id: full.id }, newestLogical: { id: last.id } })
  expect(await answerOf(lab, ['show', 'latest'])).toMatchObject({ id: last.id, method: 'logical' })

  const { identity, recipient } = await newIdentity()
  const identityFile = await lab.scratch.file('identity.txt', `${identity}\n`)
  const there = join(lab.scratch.path, 'there')
  await lab.writeConfiguration(({ repositories, clusters }) => {
    repositories.there = {
      type: 'local',
      path: there,
      encryption: { recipients: [recipient], identityFile },
    }
    clusters.main!.repositories = ['local', 'there']
    clusters.main!.retention = { full: 1, logical: 1 }
  })
  await answerOf(lab, ['copy', '--to', 'there'])
  const [copied] = await answerOf<{ backups: VerifiedBackup[] }[]>(lab, ['verify', '--repository', 'there'])
  expect(copied!.backups.map(({ id, faults, unlisted }) => ({ id, faults, unlisted }))).toEqual(
    [first, full, last].map(({ id }) => ({ id, faults: [], unlisted: undefined })),
  )

  const [done] = await answerOf<{ removedBackups: number }[]>(lab, ['retention', '--repository', 'local'])
  expect(done!.removedBackups).toBe(1)
  const idsOf = async (repository: string) => {
    const [{ backups, logical }] = await answerOf<[Record<'backups' | 'logical', { id: string }[]>]>(lab, [
      ...['list', '--repository', repository],
    ])
    return [...backups, ...logical].map(({ id }) => id)
  }
  expect(await idsOf('local')).toEqual([full.id, last.id])
  expect(await idsOf('there')).toEqual([full.id, first.id, last.id])
})

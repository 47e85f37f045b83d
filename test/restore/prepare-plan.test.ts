import { expect, test } from 'vitest'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { nothingVerified, updateVerifications } from '../../src/catalog/verification-file.ts'
import { Events } from '../../src/events.ts'
import { prepareRestore } from '../../src/restore/prepare-plan.ts'
import { CountingStorage } from '../catalog/counting-storage.ts'
import { range, record, SEGMENT, storeBackup, storeWal } from '../catalog/stored.ts'
import { plainRepository } from '../lab/repositories.ts'

const ID = '20261120T120000Z-full'
const SHARD = `main/backups/${ID}/base.0001.tar.zst`

async function repository(name: string, { isDamaged }: { isDamaged: boolean }) {
  const storage = new CountingStorage()
  await claimIdentity(storage, 'main', { systemIdentifier: '7400000000000000001', walSegmentBytes: SEGMENT })
  await storeBackup(storage, record(ID, { first: 10 }))
  await storeWal(storage, range(10, 12))
  const damaged = isDamaged ? [{ key: SHARD, reason: 'it is cut off', foundAt: '2026-11-20T13:00:00Z' }] : []
  await updateVerifications(storage, 'main', () => ({
    ...nothingVerified('main', '2026-11-20T13:00:00Z'),
    damaged,
  }))
  return plainRepository(name, storage)
}

async function prepare(...damaged: boolean[]) {
  const repositories = await Promise.all(
    damaged.map((isDamaged, index) => repository(`r${index}`, { isDamaged })),
  )
  const events = new Events()
  const warnings: string[] = []
  events.on('warning', ({ text }) => warnings.push(text))
  const { plan } = await prepareRestore(
    {
      cluster: 'main',
      question: {
        ...{ backup: undefined, target: { kind: 'immediate' }, exclusive: false, action: 'promote' },
        ...{ timeline: 'latest', standby: false, archiveMode: 'off' },
      },
      dataDirectory: '/srv/restored',
      tablespaceMap: new Map(),
      delta: false,
      databases: undefined,
      restoreCommandFor: () => 'pgrecall wal-fetch %f "%p"',
    },
    { repositories, events, signal: new AbortController().signal },
  )
  return { repository: plan.repository, notes: plan.warnings, warnings }
}

test('a repository whose backup is known to be damaged is passed over for one that has it sound', async () => {
  expect(await prepare(true, false)).toEqual({
    repository: 'r1',
    notes: [],
    warnings: [`not from repository "r0": backup ${ID} is known to be damaged (${SHARD}: it is cut off)`],
  })
  expect(await prepare(false, true)).toEqual({ repository: 'r0', notes: [], warnings: [] })
})

test('where there is no other, the plan is made, and says before the first byte what will come of it', async () => {
  const { repository, notes } = await prepare(true, true)
  expect(repository).toBe('r0')
  expect(notes).toEqual([
    `backup ${ID} is known to be damaged (${SHARD}: it is cut off), so this restore will fail halfway unless that was healed; "pgrecall verify --repair" heals it where another repository has it; no other backup here leads to the same target`,
  ])
})

import { join } from 'node:path'
import { expect, test } from 'vitest'
import { acquireLock } from '../../src/catalog/lock.ts'
import { differingClocks, futureWarnings } from '../../src/retention/clocks.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { summary } from '../catalog/stored.ts'
import { Scratch } from '../lab/scratch.ts'
import { catalogOf } from './plan-for.ts'

const BACKUPS = [1, 2, 3].map((day) => summary(`2026110${day}T120000Z-full`, { first: 10 * day }))
const { wal } = catalogOf(BACKUPS, [{ first: 10, last: 40, storedAt: '2026-11-03T13:00:00.000Z' }])

test('what ended or was stored later than now is told, many in one sentence', () => {
  const told = (now: string) => futureWarnings(BACKUPS, wal, new Date(now))
  expect(told('2026-11-03T12:56:00Z')).toEqual([])
  expect(told('2026-11-03T12:50:00Z')).toEqual([expect.stringMatching(/^WAL was stored at .*13:00:00/)])
  expect(told('2026-11-01T12:00:00Z')).toEqual([
    expect.stringMatching(
      new RegExp(`^2 backups ended later than now by their clocks, the last one, ${BACKUPS[2]!.id}, at `),
    ),
    expect.stringContaining('WAL was stored'),
  ])
})

test("a store whose clock is not this host's is told", async () => {
  await using scratch = await Scratch.create('clocks')
  const storage = new LocalStorage(join(scratch.path, 'repository'))
  const now = () => new Date()
  await using _lock = await acquireLock(storage, 'main', { purpose: 'retention', now })
  const at = (minutes: number) => new Date(Date.now() + minutes * 60_000)
  expect(await differingClocks(storage, 'main', at(4))).toBeUndefined()
  for (const minutes of [-7, 7])
    expect(await differingClocks(storage, 'main', at(minutes))).toMatchObject({
      warning: expect.stringMatching(/by this host's clock.*may let go what should stay$/),
      areDaysApart: false,
    })
})

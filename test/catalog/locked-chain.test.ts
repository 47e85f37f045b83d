import { describe, expect, test } from 'vitest'
import { lockNeeded } from '../../src/catalog/immutability.ts'
import { backupRecordKey, walKey } from '../../src/catalog/layout.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { daysFromNow, lockedBucket } from '../immutability/locked-bucket.ts'
import { gatewayMissing } from '../lab/gateway.ts'
import { plainRepository } from '../lab/repositories.ts'
import { increment, keysOf, range, record, recordOf, SEGMENT, storeBackup, storeWal } from './stored.ts'

const name = (number: number) => segmentName(1, BigInt(number), SEGMENT)

describe.skipIf(gatewayMissing())('the lock of an incremental backup', () => {
  test('covers all that it builds upon, with its records and the WAL, and nothing beside', async () => {
    const storage = await lockedBucket()
    const full = record('20261101T120000Z-full', { first: 10, last: 11 })
    const beside = recordOf(increment('20261102T120000Z-incr', full, { first: 15 }))
    const middle = recordOf(increment('20261103T120000Z-diff', full, { first: 20 }))
    const last = recordOf(increment('20261104T120000Z-incr', middle, { first: 30 }))
    for (const backup of [full, beside, middle, last]) await storeBackup(storage, backup)
    await storeWal(storage, range(8, 32))
    await storage.remove(backupRecordKey('main', last.id))

    await lockNeeded(plainRepository('offsite', storage), last, new Date(), new AbortController().signal)

    const locked: string[] = []
    for (const key of await keysOf(storage)) {
      const { lockedUntil } = (await storage.stat(key))!
      if (lockedUntil && lockedUntil > daysFromNow(29)) locked.push(key)
    }
    const shardOf = (id: string) => `main/backups/${id}/base.0001.tar.zst`
    expect(locked).toEqual([
      ...[full, middle].flatMap(({ id }) => [backupRecordKey('main', id), shardOf(id)]),
      shardOf(last.id),
      ...[10, 11, 20, 30].map((number) => walKey('main', name(number))),
    ])
  })
})

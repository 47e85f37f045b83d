import { beforeEach, describe, expect, test } from 'vitest'
import { lockNeeded } from '../../src/catalog/immutability.ts'
import { walKey } from '../../src/catalog/layout.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { keysOf, range, record, SEGMENT, storeBackup, storeWal } from '../catalog/stored.ts'
import { gatewayMissing } from '../lab/gateway.ts'
import { plainRepository } from '../lab/repositories.ts'
import { daysFromNow, lockedBucket } from './locked-bucket.ts'

const ID = '20261101T120000Z-full'
const SHARD = `main/backups/${ID}/base.0001.tar.zst`
const name = (number: number, timeline = 1) => segmentName(timeline, BigInt(number), SEGMENT)
const noSignal = new AbortController().signal

describe.skipIf(gatewayMissing())('what a backup needs is locked as long as its record', () => {
  let storage: S3Storage
  beforeEach(async () => {
    storage = await lockedBucket()
  })

  /** The keys that are locked for 29 days or more. */
  async function locked(): Promise<string[]> {
    const keys: string[] = []
    for (const key of await keysOf(storage)) {
      const { lockedUntil } = (await storage.stat(key))!
      if (lockedUntil && lockedUntil > daysFromNow(29)) keys.push(key)
    }
    return keys
  }

  test('its objects, and the WAL from its start to its stop in either form; nothing else', async () => {
    const backup = record(ID, { first: 0xfe, last: 0x101 })
    await storeBackup(storage, backup)
    await storeWal(storage, range(0xf8, 0xff))
    await storeWal(storage, range(0x102, 0x105))
    for (const number of [0x100, 0x101])
      await storage.put(walKey('main', name(number), 'sealed'), Buffer.alloc(10))
    await storage.put(walKey('main', `${name(0xfe)}.00000028.backup`), Buffer.from('x'))
    await lockNeeded(plainRepository('offsite', storage), backup, new Date(), noSignal)
    expect(await locked()).toEqual([
      SHARD,
      walKey('main', name(0xfe)),
      walKey('main', name(0xff)),
      walKey('main', name(0x100), 'sealed'),
      walKey('main', name(0x101), 'sealed'),
    ])
  })

  test('where a promotion came right after it, the last segment on the next timeline, and the histories', async () => {
    const backup = record(ID, { first: 10, last: 12, timeline: 2 })
    await storeBackup(storage, backup)
    await storeWal(storage, range(5, 15))
    await storeWal(storage, range(8, 11), { timeline: 2 })
    await storeWal(storage, range(12, 15), { timeline: 3 })
    await storeWal(storage, range(14, 15), { timeline: 4 })
    for (const timeline of [2, 3, 4])
      await storage.put(walKey('main', `0000000${timeline}.history`), Buffer.from('x'))
    await lockNeeded(plainRepository('offsite', storage), backup, new Date(), noSignal)
    expect(await locked()).toEqual([
      SHARD,
      walKey('main', name(10, 2)),
      walKey('main', name(11, 2)),
      walKey('main', '00000002.history'),
      walKey('main', name(12, 3)),
      walKey('main', '00000003.history'),
    ])
  })

  test('a backup with its own WAL needs none of the archive, but the history of its timeline', async () => {
    const backup = record(ID, { first: 10, last: 12, timeline: 2, standalone: true })
    await storeBackup(storage, backup)
    await storeWal(storage, range(9, 13), { timeline: 2 })
    await storage.put(walKey('main', '00000002.history'), Buffer.from('x'))
    await lockNeeded(plainRepository('offsite', storage), backup, new Date(), noSignal)
    expect(await locked()).toEqual([SHARD, walKey('main', '00000002.history')])
  })

  test('a lock that lasts longer is not made shorter', async () => {
    const backup = record(ID, { first: 10 })
    await storeBackup(storage, backup)
    await storage.lockUntil(SHARD, daysFromNow(90))
    await lockNeeded(plainRepository('offsite', storage), backup, new Date(), noSignal)
    expect((await storage.stat(SHARD))!.lockedUntil!.getTime()).toBeGreaterThan(daysFromNow(89).getTime())
  })

  test('an object that is not there, or cannot be locked, is a failure', async () => {
    const backup = record(ID, { first: 10 })
    const lock = (over: Storage) => lockNeeded(plainRepository('offsite', over), backup, new Date(), noSignal)
    await expect(lock(storage)).rejects.toMatchObject({ kind: 'repository' })
    const { address } = storage
    const { sharedGateway } = await import('../lab/gateway.ts')
    const without = new S3Storage({ ...address, bucket: await (await sharedGateway()).bucket() })
    await without.put(SHARD, Buffer.alloc(1))
    await expect(lock(without)).rejects.toMatchObject({ kind: 'repository' })
  })
})

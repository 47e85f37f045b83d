import { beforeEach, describe, expect, test } from 'vitest'
import { updateCatalog } from '../../src/catalog/catalog.ts'
import { backupRecordKey } from '../../src/catalog/layout.ts'
import { livingPins } from '../../src/catalog/pin.ts'
import { CountingStorage } from '../catalog/counting-storage.ts'
import { range, record, storeBackup, storeWal } from '../catalog/stored.ts'
import { Nights, segmentKey, shardKey } from './nights.ts'

const OLD = '20261101T000000Z-full'
const NEW = '20261115T000000Z-full'
/** Three such parts are more than all. */
const PART = { fraction: 0.4 }

let nights: Nights
beforeEach(async () => {
  nights = new Nights(new CountingStorage())
  await storeBackup(nights.storage, record(OLD, { first: 10 }))
  await storeBackup(nights.storage, record(NEW, { first: 20 }))
  await storeWal(nights.storage, range(10, 30))
})

const rememberedAfter = async (count: number, share = PART) => {
  for (let night = 0; night < count; night++) await nights.verify(share)
  return nights.remembered()
}

describe('what parts find damaged is remembered until', () => {
  test('a segment that was mended was read', async () => {
    nights.damaged.set(segmentKey(15), { reason: 'damaged' })
    await nights.verify()
    expect(await rememberedAfter(3)).toEqual([segmentKey(15)])
    nights.damaged.clear()
    expect(await rememberedAfter(3)).toEqual([])
  })

  test('missing WAL is there again, and was read', async () => {
    await nights.verify()
    for (const number of [29, 30, 15]) await nights.storage.remove(segmentKey(number))
    expect(await rememberedAfter(1)).toEqual([segmentKey(15), segmentKey(29)])
    await storeWal(nights.storage, [15, 29, 30])
    await nights.verify({ fraction: 0.02 })
    expect(nights.read).toEqual([segmentKey(15)])
    expect(await rememberedAfter(3)).toEqual([])
  })

  test('its backup is gone', async () => {
    nights.damaged.set(shardKey(OLD), { reason: 'damaged' })
    expect(await rememberedAfter(3)).toEqual([shardKey(OLD)])
    await nights.storage.remove(backupRecordKey('main', OLD))
    await nights.storage.remove(shardKey(OLD))
    expect(await rememberedAfter(1)).toEqual([])
  })

  test('its segment is gone', async () => {
    nights.damaged.set(segmentKey(10), { reason: 'damaged' })
    expect(await rememberedAfter(3)).toEqual([segmentKey(10)])
    await nights.storage.remove(backupRecordKey('main', OLD))
    await nights.storage.remove(shardKey(OLD))
    await nights.storage.remove(segmentKey(10))
    expect(await rememberedAfter(1)).toEqual([])
  })

  test('a record, which is looked at each time, is sound', async () => {
    const key = backupRecordKey('main', NEW)
    await nights.storage.put(key, Buffer.from('{}'))
    expect(await rememberedAfter(1)).toEqual([key])
    await storeBackup(nights.storage, record(NEW, { first: 20 }))
    expect(await rememberedAfter(1)).toEqual([])
  })
})

test('what was read by a clock that was years ahead counts as never read', async () => {
  const { now } = nights
  nights.now = new Date('2036-01-01T00:00:00Z')
  await nights.verify()
  nights.now = now
  nights.damaged.set(segmentKey(30), { reason: 'damaged' })
  await nights.verify(PART)
  expect(await nights.known()).toMatchObject({ oldestAt: nights.now.toISOString() })
  expect((await nights.known()).neverBytes).toBeGreaterThan(0)
  expect(await rememberedAfter(3)).toEqual([segmentKey(30)])
})

describe('a retention', () => {
  const remove = async (...keys: string[]) => {
    for (const key of keys) await nights.storage.remove(key)
  }
  const removeOld = async () => {
    await remove(backupRecordKey('main', OLD), shardKey(OLD), ...range(10, 19).map(segmentKey))
  }
  const found = async () => (await nights.verify()).damages().map(({ key }) => key)

  test('that runs meanwhile does no damage, and hides none', async () => {
    nights.meanwhile = removeOld
    expect(await found()).toEqual([])
    nights.meanwhile = () => remove(segmentKey(20), segmentKey(25), segmentKey(30))
    expect(await found()).toEqual([20, 25, 30].map(segmentKey))
  })

  test('is kept away from WAL as long as anything is read', async () => {
    let pinned: string[] = []
    nights.beforeJob = async (job) => {
      if (!('key' in job) || job.key !== shardKey(NEW)) return
      pinned = (await livingPins(nights.storage, 'main', nights.now)).map(({ backup }) => backup)
    }
    await nights.verify()
    expect(pinned.toSorted()).toEqual([OLD, NEW])
  })

  test('that was killed while it removed a backup leaves none that was lost', async () => {
    await nights.verify()
    await remove(backupRecordKey('main', OLD))
    await updateCatalog(nights.storage, 'main', nights.now)
    await remove(backupRecordKey('main', NEW))
    expect(await found()).toEqual([backupRecordKey('main', NEW)])
  })
})

describe('a host without the key', () => {
  beforeEach(async () => {
    nights.damaged.set(segmentKey(30), { reason: 'damaged' })
    nights.isKeyless = true
    await nights.verify()
  })

  test('verifies no encrypted WAL, but everything has its turn', async () => {
    expect(await nights.known()).toMatchObject({ neverBytes: 210, wal: [], walSizes: [{}] })
    const read = new Set<string>()
    for (let night = 0; night < 3; night++) {
      await nights.verify(PART)
      for (const key of nights.read) read.add(key)
    }
    expect(read.size).toBe(23)
    expect(await nights.known()).toMatchObject({ neverBytes: 210, damaged: [] })
  })

  test('leaves it to one that has it, and does not take back what that one finds', async () => {
    const since = nights.now.toISOString()
    nights.isKeyless = false
    await nights.verify({ since })
    expect(nights.read).toEqual(range(10, 30).map(segmentKey))
    nights.isKeyless = true
    await nights.verify()
    expect(await nights.remembered()).toEqual([segmentKey(30)])
  })
})

describe('of two verifications at once', () => {
  test('what the other one found damaged stays, and has its turn first', async () => {
    await nights.verify()
    nights.damaged.set(segmentKey(25), { reason: 'damaged' }).set(shardKey(NEW), { reason: 'damaged' })
    nights.meanwhile = async () => void (await nights.another().verify())
    await nights.verify({ fraction: 0.1 })
    expect((await nights.remembered()).toSorted()).toEqual([shardKey(NEW), segmentKey(25)])
    nights.meanwhile = async () => {}
    await nights.verify({ fraction: 0.25 })
    expect(nights.read).toEqual([shardKey(NEW), segmentKey(25)])
  })

  test('what the other one found sound is forgotten', async () => {
    nights.damaged.set(shardKey(OLD), { reason: 'a wrong page', isContent: true })
    await nights.verify('all', { decode: true })
    nights.damaged.clear()
    nights.meanwhile = async () => void (await nights.another().verify('all', { decode: true }))
    await nights.verify({ fraction: 0.1 })
    expect(await nights.remembered()).toEqual([])
  })
})

describe('what only taking apart finds is remembered', () => {
  const keys = [shardKey(OLD), segmentKey(15)]
  beforeEach(async () => {
    for (const key of keys) nights.damaged.set(key, { reason: 'a wrong page', isContent: true })
    await nights.verify('all', { decode: true })
  })

  test('through readings that do not, of all and of parts, which have their turns all the same', async () => {
    expect((await nights.remembered()).toSorted()).toEqual(keys)
    await nights.verify()
    await nights.verify({ fraction: 0.1 })
    await nights.verify({ fraction: 0.1 })
    expect(nights.read).not.toContain(shardKey(OLD))
    expect((await nights.remembered()).toSorted()).toEqual(keys)
    expect((await nights.known()).damaged[0]!.isContent).toBe(true)
  })

  test('until it was taken apart, and is sound', async () => {
    nights.damaged.clear()
    await nights.verify()
    await nights.verify('all', { decode: true })
    expect(await nights.remembered()).toEqual([])
  })

  test('until it is gone', async () => {
    await nights.storage.remove(backupRecordKey('main', OLD))
    for (const key of [shardKey(OLD), ...range(10, 15).map(segmentKey)]) await nights.storage.remove(key)
    expect(await rememberedAfter(1)).toEqual([])
  })
})

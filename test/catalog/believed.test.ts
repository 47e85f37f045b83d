import { createHash } from 'node:crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { loadCatalog, updateCatalog } from '../../src/catalog/catalog.ts'
import { CATALOG_SHAPE, StoredCatalogSchema } from '../../src/catalog/catalog-file.ts'
import { backupRecordKey, catalogKey } from '../../src/catalog/layout.ts'
import { encodeRecord } from '../../src/catalog/record-file.ts'
import { readObject } from '../../src/storage/storage.ts'
import { CountingStorage } from './counting-storage.ts'
import { range, record, storeBackup, storeWal } from './stored.ts'

const NOW = new Date('2026-11-20T13:00:00Z')
const IDS = range(1, 100).map((number) => `20260101T0${String(10_000 + number).slice(0, 5)}Z-full`)
const OLD = IDS[60]!

let storage: CountingStorage
beforeEach(async () => {
  storage = new CountingStorage()
  for (const id of IDS) await storeBackup(storage, record(id, { first: 10 }))
  await storeWal(storage, range(10, 20))
  await updateCatalog(storage, 'main', NOW)
})

const look = () => loadCatalog(storage, 'main', { believing: true })
const ids = async () => (await look()).backups.map(({ id }) => id)
const recordsRead = () => storage.reads.filter((key) => key.endsWith('/backup.json'))
const stored = async () => JSON.parse(String(await readObject(storage, catalogKey('main'))))
async function store({ sha256: _sum, ...catalog }: Record<string, unknown>): Promise<void> {
  await storage.put(catalogKey('main'), encodeRecord(catalog))
}

describe('what only looks', () => {
  test('reads some of the records, in turn, and believes the others', async () => {
    const read: string[] = []
    for (let turn = 0; turn < 3; turn++) {
      storage.forget()
      expect((await updateCatalog(storage, 'main', NOW)).backups).toHaveLength(100)
      expect(recordsRead().length).toBeLessThanOrEqual(48)
      read.push(...recordsRead())
    }
    expect(new Set(read)).toEqual(new Set(IDS.map((id) => backupRecordKey('main', id))))
  })

  test('finds a backup gone whose folder is, whatever the catalog says', async () => {
    await storage.remove(backupRecordKey('main', OLD))
    await storage.remove(backupRecordKey('main', OLD).replace('backup.json', 'base.0001.tar.zst'))
    expect(await ids()).toEqual(IDS.filter((id) => id !== OLD))
  })

  test.each([
    ['removed', undefined],
    ['damaged', Buffer.from('{')],
  ])('finds in its turn that a record was %s by hand, and saves what it found', async (what, bytes) => {
    const key = backupRecordKey('main', OLD)
    if (bytes) await storage.put(key, bytes)
    else await storage.remove(key)
    const found: boolean[] = []
    for (let turn = 0; turn < 4; turn++) {
      const { backups, damaged } = await updateCatalog(storage, 'main', NOW)
      found.push(!backups.some(({ id }) => id === OLD))
      expect(damaged.map(({ id }) => id)).toEqual(found.at(-1) && what === 'damaged' ? [OLD] : [])
    }
    // It is in the second part, of 48.
    expect(found).toContain(true)
    expect(found.slice(found.indexOf(true))).not.toContain(false)
    expect((await stored()).backups).toHaveLength(99)
  })

  test('sees no less of the newest than that they are there', async () => {
    const newest = IDS.at(-1)!
    await storage.remove(backupRecordKey('main', newest))
    expect(await ids()).not.toContain(newest)
  })
})

describe('a catalog is believed', () => {
  const label = async () => (await look()).backups.find(({ id }) => id === OLD)?.label
  const relabelled = (catalog: { backups: { id: string }[] }, change: object = {}) => ({
    ...catalog,
    looks: 0,
    backups: catalog.backups.map((backup) => (backup.id === OLD ? { ...backup, label: 'told' } : backup)),
    ...change,
  })

  test('as it was written', async () => {
    await store(relabelled(await stored()))
    expect(await label()).toBe('told')
  })

  test('not with a byte that changed since', async () => {
    const text = String(await readObject(storage, catalogKey('main')))
    await storage.put(catalogKey('main'), Buffer.from(text.replaceAll('"label":""', '"label":"told"')))
    expect(await label()).toBe('')
  })

  test.each([
    ['when it has all that is needed', {}, 'told'],
    ['not when something is missing', { logical: undefined }, ''],
    ['not when it is of a later format', { format: 2 }, ''],
  ])('of another version, %s', async (_when, change, told) => {
    await store(relabelled(await stored(), { shape: CATALOG_SHAPE + 1, ...change }))
    expect(await label()).toBe(told)
  })

  test('of another version, not when it tells less of a backup', async () => {
    const catalog = relabelled(await stored(), { shape: undefined })
    await store({
      ...catalog,
      backups: catalog.backups.map(({ id, ...rest }) => ({ id, ...rest, codec: undefined })),
    })
    expect(await label()).toBe('')
  })

  test('by a program that knows its shape: where the schema changes, so must the number', () => {
    const schema = JSON.stringify(z.toJSONSchema(StoredCatalogSchema, { unrepresentable: 'any' }))
    const sum = createHash('sha256').update(schema).digest('hex').slice(0, 16)
    expect([CATALOG_SHAPE, sum]).toEqual([1, '4a8d0cc7e2590979'])
  })
})

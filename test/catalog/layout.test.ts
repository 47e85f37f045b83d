import { expect, test } from 'vitest'
import { backupId, CLUSTER_NAME, isBackupId, walKey, walNameOf } from '../../src/catalog/layout.ts'
import { type WalObject, walObjectOf } from '../../src/catalog/wal-object.ts'
import { isValidKey } from '../../src/storage/storage.ts'

const PLACE = 'main/wal/00000001/0000000A/000000010000000A000000FF'

test.each([
  ['000000010000000A000000FF', 'main/wal/00000001/0000000A/000000010000000A000000FF.zst'],
  ['000000010000000A000000FF.partial', 'main/wal/00000001/0000000A/000000010000000A000000FF.partial.zst'],
  [
    '000000010000000A000000FF.00000028.backup',
    'main/wal/00000001/0000000A/000000010000000A000000FF.00000028.backup.zst',
  ],
  ['0000000A.history', 'main/wal/0000000A/0000000A.history.zst'],
])('%s lies at %s', (name, key) => {
  expect(walKey('main', name)).toBe(key)
  expect(walNameOf(key)).toBe(name)
  expect(isValidKey(key)).toBe(true)
  expect(walKey('main', name, 'sealed')).toBe(`${key}.age`)
  expect(walNameOf(`${key}.age`)).toBe(name)
})

test.each<[string, WalObject['kind'] | undefined]>([
  [`${PLACE}.zst`, 'segment'],
  [`${PLACE}.zst.age`, 'segment'],
  [`${PLACE}.partial.zst.age`, 'partial'],
  [`${PLACE}.receiving.zst`, 'receiving'],
  [`${PLACE}.receiving.zst.age`, 'receiving'],
  [`${PLACE}.dropped.json`, 'dropped'],
  [`${PLACE}.dropped.json.age`, undefined],
  [`${PLACE}.age`, undefined],
  [`${PLACE}.zst.age.zst`, undefined],
  [PLACE.replace('/0000000A/', '/0000000B/').concat('.zst.age'), undefined],
  ['main/wal/0000000A/0000000A.history.zst.age', 'history'],
])('%s is a %s', (key, kind) => {
  expect(walObjectOf('main', key)?.kind).toBe(kind)
})

test.each([
  '../../etc/passwd',
  '000000010000000A000000FF.zst',
  'archive_status',
  '',
  '000000010000000a000000ff',
])('%j is no WAL file and has no key', (name) => {
  expect(() => walKey('main', name)).toThrow(TypeError)
})

test('other objects have no WAL name', () => {
  expect(walNameOf('main/wal/00000001/readme.txt')).toBeUndefined()
})

test('keys of a timeline sort as its segments do, in either form', () => {
  const names = [
    '000000010000000000000001',
    '0000000100000000000000FF',
    '000000010000000100000000',
    '000000010000001000000000',
  ]
  const keys = names.flatMap((name) => [walKey('main', name), walKey('main', name, 'sealed')])
  expect(keys.toSorted()).toEqual(keys)
})

test('a backup has the second of its start and its type in its id, and ids sort by time', () => {
  const id = backupId(new Date('2026-11-20T23:15:07.999Z'), 'full')
  expect(id).toBe('20261120T231507Z-full')
  expect(isBackupId(id)).toBe(true)
  expect(id < backupId(new Date('2026-11-20T23:15:08Z'), 'full')).toBe(true)
})

test.each([
  '20261120T231507Z',
  '20261120T231507Z-',
  '20261120T231507Z-FULL',
  '20261120T231507Z-full.bak',
  '../x',
  'x20261120T231507Z-full',
])('%j is no id of a backup', (name) => {
  expect(isBackupId(name)).toBe(false)
})

test.each(['main', 'a', 'Prod_17-eu', '9'])('%s can be a cluster', (name) => {
  expect(CLUSTER_NAME.test(name)).toBe(true)
  expect(isValidKey(name)).toBe(true)
})

test.each(['', '.', '..', '-x', '_x', 'a b', 'a/b', 'pgrecall.json', 'ä', 'x'.repeat(64)])(
  '%j cannot be a cluster',
  (name) => {
    expect(CLUSTER_NAME.test(name)).toBe(false)
  },
)

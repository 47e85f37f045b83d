import { describe, expect, test } from 'vitest'
import { chooseDatabases, databaseOf, isEmptied } from '../../src/restore/databases.ts'

const BACKUP = {
  id: '20261120T231500Z-full',
  databases: [
    { oid: '1', name: 'template1' },
    { oid: '4', name: 'template0' },
    { oid: '5', name: 'postgres' },
    { oid: '16384', name: 'shop' },
    { oid: '16500', name: 'it "s"' },
    { oid: '16600', name: '16384' },
    { oid: '16700', name: 'template0' },
  ],
}
const emptied = (kind: 'include' | 'exclude', ...names: string[]) =>
  chooseDatabases(BACKUP, [], { kind, names }).emptied.map(({ oid }) => oid)

describe('the databases of a partial restore', () => {
  test.each<[string, string[], string[]]>([
    ['all but the included one', emptied('include', 'shop'), ['16500', '16600']],
    ['all but two', emptied('include', 'shop', 'it "s"'), ['16600']],
    ['just the excluded one', emptied('exclude', 'shop'), ['16384']],
    ['one by its oid', emptied('exclude', '16500'), ['16500']],
    ['one whose name is the oid of another', emptied('exclude', '16384'), ['16600']],
    ['no template, nor "postgres", whoever asks', emptied('exclude', 'template1', '5', '16700'), []],
    [
      'all of the users, where only "postgres" is included',
      emptied('include', '5'),
      ['16384', '16500', '16600'],
    ],
  ])('are emptied: %s', (_what, found, expected) => {
    expect(found).toEqual(expected)
  })

  test('kept and emptied ones are all there are', () => {
    const { kept, emptied } = chooseDatabases(BACKUP, [], { kind: 'include', names: ['shop'] })
    expect([...kept, ...emptied]).toHaveLength(BACKUP.databases.length)
  })

  test('one that there is not is an error that lists them', () => {
    expect(() => emptied('include', 'Shop')).toThrow(
      expect.objectContaining({
        kind: 'usage',
        message: 'backup 20261120T231500Z-full has no database "Shop"',
        hint: expect.stringContaining('"shop" (16384), "it "s"" (16500)'),
      }),
    )
  })

  test('are known by their oids alone where the backup has no names', () => {
    const found = ['1', '16384', '16500']
    const choose = (...names: string[]) =>
      chooseDatabases({ id: BACKUP.id }, found, { kind: 'include', names })
    expect(choose('16384').emptied).toEqual([{ oid: '16500', name: undefined }])
    expect(() => choose('shop')).toThrow(
      expect.objectContaining({
        message: `backup ${BACKUP.id} does not know the names of its databases, and has none with the oid "shop"`,
        hint: 'it has 1, 16384, 16500',
      }),
    )
  })
})

test.each<[string, string | undefined]>([
  ['base/16384/2619', '16384'],
  ['base/16384/2619_fsm', '16384'],
  ['base/16384/2619.1', '16384'],
  ['base/16384/16999_init', '16384'],
  ['pg_tblspc/16390/PG_15_202209061/16384/16400', '16384'],
  ['base/16384/PG_VERSION', undefined],
  ['base/16384/pg_filenode.map', undefined],
  ['global/1260', undefined],
  ['postgresql.conf', undefined],
])('%s is a relation of the database %s', (path, oid) => {
  expect(databaseOf(path)).toBe(oid)
  const partial = { kept: [], emptied: [{ oid: '16384', name: 'x' }] }
  expect(isEmptied(partial, path)).toBe(oid === '16384')
  expect(isEmptied({ kept: [], emptied: [{ oid: '1638', name: 'x' }] }, path)).toBe(false)
})

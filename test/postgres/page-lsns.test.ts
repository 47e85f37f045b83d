import { expect, test } from 'vitest'
import { lsn } from '../../src/postgres/lsn.ts'
import { changedPages } from '../../src/postgres/page-lsns.ts'

const SINCE = lsn('16/B3000028')

function page(position: string, pageBytes = 8192): Buffer {
  const bytes = Buffer.alloc(pageBytes, 7)
  const value = lsn(position)
  bytes.writeUInt32LE(Number(value >> 32n), 0)
  bytes.writeUInt32LE(Number(value & 0xffffffffn), 4)
  bytes.writeUInt16LE(pageBytes + 4, 18)
  return bytes
}

function changed(pages: Buffer[], since = SINCE, pageBytes = 8192): number[] {
  const found: number[] = []
  changedPages(Buffer.concat(pages), pageBytes, since, (index) => found.push(index))
  return found
}

test.each([
  ['16/B3000028', true],
  ['16/B3000029', true],
  ['17/0', true],
  ['FFFFFFFF/FFFFFFFF', true],
  ['16/B3000027', false],
  ['15/FFFFFFFF', false],
  ['0/B3000029', false],
  // What initdb leaves in the catalogs.
  ['0/28', false],
  // New or only extended; under construction.
  ['0/0', true],
  ['0/1', true],
])('a page of %s: %s', (position, isChanged) => {
  expect(changed([page(position)])).toEqual(isChanged ? [0] : [])
})

test('positions past 2 GiB compare as what they are', () => {
  expect(changed([page('0/7FFFFFFF'), page('0/80000000'), page('0/80000001')], lsn('0/80000000'))).toEqual([
    1, 2,
  ])
  expect(changed([page('80000000/28'), page('1/28')], lsn('7FFFFFFF/0'))).toEqual([0])
})

test('what has not the header of a page counts as changed', () => {
  const strange = page('1/28')
  strange.writeUInt16LE(8192 + 5, 18)
  expect(changed([page('1/28'), strange, Buffer.alloc(8192), page('1/28')])).toEqual([1, 2])
})

test('pages of another size', () => {
  expect(changed([page('1/28', 1024), page('17/28', 1024), page('1/28', 1024)], SINCE, 1024)).toEqual([1])
})

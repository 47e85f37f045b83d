import { expect, test } from 'vitest'
import { formatLsn, lsn, parseLsn } from '../../src/postgres/lsn.ts'

test.each([
  ['0/0', 0n],
  ['0/28', 0x28n],
  ['16/B374D848', 0x16b374d848n],
  ['1/0', 0x100000000n],
  ['FFFFFFFF/FFFFFFFF', 0xffffffffffffffffn],
])('%s is read, and written as PostgreSQL does', (text, value) => {
  expect(parseLsn(text)).toBe(value)
  expect(lsn(text)).toBe(value)
  expect(formatLsn(value)).toBe(text)
})

test('small letters, leading zeros and spaces around are read', () => {
  expect(parseLsn(' 00000016/0b374d84 ')).toBe(0x160b374d84n)
})

test.each(['', '/', '0', '0/', '/0', '123456789/0', '0/123456789', 'G/0', '-1/0', '0/0/0', '0x1/0', '0 / 0'])(
  '%j is no LSN',
  (text) => {
    expect(parseLsn(text)).toBeUndefined()
    expect(() => lsn(text)).toThrow(TypeError)
  },
)

import { expect, test } from 'vitest'
import { parseByteSize } from '../../src/config/byte-size.ts'

test.each([
  ['0', 0],
  ['8192', 8192],
  ['8192B', 8192],
  ['32kB', 32_768],
  ['64MB', 64 * 1024 ** 2],
  ['1.5 GB', 1.5 * 1024 ** 3],
  [' 2TB ', 2 * 1024 ** 4],
])('"%s" is %d bytes', (text, bytes) => {
  expect(parseByteSize(text)).toBe(bytes)
})

test.each(['', 'MB', '64 mb', '-1', '1e3', '64MB/s', '9999999999999TB', '1.2.3'])(
  '"%s" is no size',
  (text) => {
    expect(parseByteSize(text)).toBeUndefined()
  },
)

import { expect, test } from 'vitest'
import { crc32c } from '../../src/postgres/crc32c.ts'

test.each([
  ['nothing', Buffer.alloc(0), 0],
  ['the check value of the algorithm', Buffer.from('123456789'), 0xe3069283],
  // RFC 3720, B.4
  ['32 zeros', Buffer.alloc(32), 0x8a9136aa],
  ['32 ones', Buffer.alloc(32, 0xff), 0x62a8ab43],
  ['0 to 31', Buffer.from(Array.from({ length: 32 }, (_, at) => at)), 0x46dd794e],
  ['31 to 0', Buffer.from(Array.from({ length: 32 }, (_, at) => 31 - at)), 0x113fdb5c],
])('crc32c of %s', (_, bytes, crc) => {
  expect(crc32c(bytes)).toBe(crc)
})

test('several buffers count as one sequence, wherever they are cut', () => {
  const bytes = Buffer.from('The quick brown fox jumps over the lazy dog')
  for (let cut = 0; cut <= bytes.length; cut++) {
    expect(crc32c(bytes.subarray(0, cut), bytes.subarray(cut))).toBe(0x22620404)
  }
})

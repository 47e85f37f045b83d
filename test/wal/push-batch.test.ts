import { expect, test } from 'vitest'
import { lanesFor } from '../../src/wal/push-batch.ts'

const MIB = 2 ** 20

test.each([
  ['many segments', 200, 16 * MIB, 2, { threads: 2, sideBySide: 2 }],
  ['few segments', 3, 16 * MIB, 8, { threads: 1, sideBySide: 2 }],
  ['segments of 64 MiB', 200, 64 * MIB, 2, { threads: 2, sideBySide: 2 }],
  ['segments of 64 MiB and many threads', 200, 64 * MIB, 16, { threads: 4, sideBySide: 1 }],
  ['segments of 1 GiB', 200, 1024 * MIB, 4, { threads: 1, sideBySide: 1 }],
  ['nothing', 0, 0, 4, { threads: 1, sideBySide: 2 }],
])('a batch of %s stays within its memory', (_what, count, bytes, jobs, lanes) => {
  expect(lanesFor(Array<number>(count).fill(bytes), jobs)).toEqual(lanes)
})

test('the largest file decides', () => {
  expect(lanesFor([1, 2, 1024 * MIB, 3, 4, 5, 6, 7], 4)).toEqual({ threads: 1, sideBySide: 1 })
})

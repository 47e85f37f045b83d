import { describe, expect, test } from 'vitest'
import {
  decodeIncrementalHeader,
  encodeIncrementalHeader,
  incrementalHeaderBytes,
  incrementalName,
  originalName,
} from '../../src/postgres/incremental-file.ts'

const header = (truncationBlocks: number, blocks: number[], blockBytes = 8192) =>
  encodeIncrementalHeader({ truncationBlocks, blocks: Uint32Array.from(blocks) }, blockBytes)

describe('names', () => {
  test.each([
    ['base/5/16384', 'base/5/INCREMENTAL.16384'],
    ['base/5/16384.1', 'base/5/INCREMENTAL.16384.1'],
    ['pg_tblspc/16390/PG_17_202406281/5/1', 'pg_tblspc/16390/PG_17_202406281/5/INCREMENTAL.1'],
    ['16384', 'INCREMENTAL.16384'],
  ])('%s and %s', (original, incremental) => {
    expect(incrementalName(original)).toBe(incremental)
    expect(originalName(incremental)).toBe(original)
  })

  test.each([
    'base/5/16384',
    'INCREMENTAL.5/16384',
    'base/5/xINCREMENTAL.1',
    'base/INCREMENTAL.',
    'base/incremental.1',
    '',
  ])('%s is that of a whole file', (path) => {
    expect(originalName(path)).toBeUndefined()
  })
})

describe('the header', () => {
  test('is magic, count, truncation length and numbers, little-endian, up to a block boundary', () => {
    const bytes = header(3, [0, 2])
    expect(bytes.subarray(0, 20).toString('hex')).toBe('0d1faed3020000000300000000000000' + '02000000')
    expect(bytes).toHaveLength(8192)
    expect(bytes.subarray(20).every((byte) => byte === 0)).toBe(true)
  })

  test('is twelve bytes where there are no blocks', () => {
    expect(header(131_072, []).toString('hex')).toBe('0d1faed30000000000000200')
  })

  test.each([
    [0, 8192, 12],
    [1, 8192, 8192],
    [2045, 8192, 8192],
    [2046, 8192, 16_384],
    [131_072, 8192, 532_480],
    [253, 1024, 1024],
    [254, 1024, 2048],
  ])('with %i blocks of %i bytes takes %i', (count, blockBytes, bytes) => {
    expect(incrementalHeaderBytes(count, blockBytes)).toBe(bytes)
  })

  test('is read back as it was written', () => {
    const blocks = Array.from({ length: 3000 }, (_, at) => at * 7)
    const decoded = decodeIncrementalHeader(header(22_000, blocks), 8192)
    expect(decoded).toEqual({
      blockCount: 3000,
      truncationBlocks: 22_000,
      headerBytes: 16_384,
      blocks: Uint32Array.from(blocks),
    })
    expect(decodeIncrementalHeader(header(5, []), 8192)?.blocks).toEqual(new Uint32Array())
  })

  test('is known step by step, from as many bytes as are there', () => {
    const bytes = Buffer.concat([header(9, [8, 3]), Buffer.alloc(16_384, 1)])
    expect(decodeIncrementalHeader(bytes.subarray(0, 11), 8192)).toBeUndefined()
    const facts = { blockCount: 2, truncationBlocks: 9, headerBytes: 8192 }
    expect(decodeIncrementalHeader(bytes.subarray(0, 12), 8192)).toEqual(facts)
    expect(decodeIncrementalHeader(bytes.subarray(0, 8191), 8192)).toEqual(facts)
    // In whatever order they stand, since the blocks stand in the same.
    expect(decodeIncrementalHeader(bytes, 8192)).toEqual({ ...facts, blocks: Uint32Array.of(8, 3) })
  })

  test.each([
    ['begins otherwise', Buffer.alloc(8192), 'does not begin'],
    ['has more blocks than a segment', header(0, [1, 2, 3]), 'has at most 2'],
    ['has a length past the segment', header(3, []), 'speaks of 3 blocks'],
    ['has a block past the segment', header(1, [2]), 'it has block 2'],
  ])('is refused where it %s', (_, bytes, reason) => {
    expect(() => decodeIncrementalHeader(bytes, 8192, 2)).toThrow(reason)
  })
})

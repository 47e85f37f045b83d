import { describe, expect, test } from 'vitest'
import type { TarMember } from '../../src/archive/tar.ts'
import { ArrivingIncrement, incrementedFile } from '../../src/backup/stream-increment.ts'
import { encodeIncrementalHeader } from '../../src/postgres/incremental-file.ts'
import { randomFrom } from '../random.ts'

const PAGE = 8192
const FACTS = { blockBytes: PAGE, relationSegmentBlocks: 131_072 }

const memberOf = (size: number, path = 'base/5/INCREMENTAL.16384.1'): TarMember => ({
  path,
  type: 'file',
  size,
  mode: 0o600,
  mtime: 0,
  uid: 0,
  gid: 0,
})

/** Each block is filled with its own number. */
function increment(truncationBlocks: number, blocks: readonly number[]): Buffer {
  const header = encodeIncrementalHeader({ truncationBlocks, blocks: Uint32Array.from(blocks) }, PAGE)
  return Buffer.concat([header, ...blocks.map((block) => Buffer.alloc(PAGE, block % 251))])
}

/** Lets a file pass in pieces of random sizes. @returns what was seen of its blocks, and what came of it */
function pass(content: Buffer, seed = 1, size = content.length) {
  const random = randomFrom(seed)
  const seen: { position: number; bytes: Buffer }[] = []
  const pages = {
    take: (bytes: Buffer, position: number) => void seen.push({ position, bytes: Buffer.from(bytes) }),
    end: () => ({ lastLsn: '0/1' }),
  }
  const arriving = new ArrivingIncrement(memberOf(size), FACTS, pages)
  for (let at = 0; at < content.length; ) {
    const bytes = content.subarray(at, at + 1 + Math.floor(random() ** 3 * 5 * PAGE))
    arriving.take(bytes, at)
    at += bytes.length
  }
  return { seen, facts: arriving.end() }
}

describe('an incremental file on its way', () => {
  test.each([1, 2, 3, 4])('has its blocks at their places, seed %i', (seed) => {
    const random = randomFrom(seed)
    // Enough of them for a header of two pages.
    const blocks = Array.from({ length: 9000 }, (_, block) => block).filter(() => random() < 0.4)
    const { seen, facts } = pass(increment(20, blocks), seed)
    const bytes = new Map<number, number>()
    const wrong: number[] = []
    for (const { position, bytes: piece } of seen) {
      for (let at = 0; at < piece.length; ) {
        const block = Math.floor((position + at) / PAGE)
        const part = piece.subarray(at, (block + 1) * PAGE - position)
        if (!part.equals(Buffer.alloc(part.length, block % 251))) wrong.push(block)
        bytes.set(block, (bytes.get(block) ?? 0) + part.length)
        at += part.length
      }
    }
    expect(wrong).toEqual([])
    expect([...bytes]).toEqual(blocks.map((block) => [block, PAGE]))
    expect(facts).toEqual({
      lastLsn: '0/1',
      fileSize: (blocks.at(-1)! + 1) * PAGE,
      changedBlocks: blocks.length,
    })
  })

  test('without blocks has the length that its header says', () => {
    const { seen, facts } = pass(increment(7, []))
    expect(seen.filter(({ bytes }) => bytes.length > 0)).toEqual([])
    expect(facts).toMatchObject({ fileSize: 7 * PAGE, changedBlocks: 0 })
  })

  test.each([
    ['does not begin as one', Buffer.alloc(20_000, 'x'), undefined, /does not begin as/],
    ['is shorter than its blocks', increment(9, [1, 2]), 2 * PAGE, /length that its 2 blocks need/],
    ['ends in its header', increment(9, [1, 2]).subarray(0, 100), 100, /does not come to an end/],
  ])('that %s is refused', (_what, content, size, message) => {
    expect(() => pass(content, 1, size)).toThrow(
      expect.objectContaining({ kind: 'damaged', message: expect.stringMatching(message) }),
    )
  })
})

test.each([
  ['base/5/INCREMENTAL.16384', 'base/5/16384'],
  ['PG_17_202406281/5/INCREMENTAL.16384.3', 'PG_17_202406281/5/16384.3'],
  ['global/INCREMENTAL.1262', 'global/1262'],
  ['base/5/16384', undefined],
  ['base/5/INCREMENTAL.notes', undefined],
  ['INCREMENTAL.16384', undefined],
])('%s stands for %s', (path, original) => {
  expect(incrementedFile(memberOf(0, path))).toBe(original)
})

import { Worker } from 'node:worker_threads'
import { describe, expect, test } from 'vitest'
import { PageChecker } from '../../src/postgres/page-checksum.ts'
import { randomFrom } from '../random.ts'
import { checksumOf, randomPage, seal } from './pages.ts'

const SEED = 20_261_121
const random = randomFrom(SEED)
const below = (limit: number) => Math.floor(random() * limit)

/** Right pages at an offset of a checker's buffer, the first of which is block `firstBlock`. */
function filled(pages: number, options: { pageBytes?: number; offset?: number; firstBlock?: number } = {}) {
  const { pageBytes = 8192, offset = 0, firstBlock = 0 } = options
  const checker = new PageChecker(offset + pages * pageBytes, pageBytes)
  for (let index = 0; index < pages; index++) {
    const page = randomPage(random, firstBlock + index, BigInt(1000 + index), pageBytes)
    page.copy(checker.buffer, offset + index * pageBytes)
  }
  return checker
}

describe(`pages that were made by the formula of checksum_impl.h (seed ${SEED})`, () => {
  test.each([1024, 2048, 4096, 8192, 16_384, 32_768])(
    'of %i bytes are right, wherever they begin; with one bit changed they are wrong',
    (pageBytes) => {
      const pages = 5
      for (const offset of [0, 512, 1, 8191]) {
        const firstBlock = below(2 ** 32 - pages)
        const checker = filled(pages, { pageBytes, offset, firstBlock })
        expect(checker.check(offset, pages, firstBlock)).toEqual([])
        for (let turn = 0; turn < 100; turn++) {
          const index = below(pages)
          // Not in pd_upper: where that becomes 0, the page is a new one.
          const byte = [below(14), 16 + below(pageBytes - 16)][turn % 2]!
          const at = offset + index * pageBytes + byte
          const bit = 1 << below(8)
          checker.buffer[at]! ^= bit
          const before = Buffer.from(checker.buffer)
          expect(checker.check(offset, pages, firstBlock)).toEqual([index])
          expect(checker.buffer.equals(before)).toBe(true)
          checker.buffer[at]! ^= bit
        }
      }
    },
  )

  test('every wrong page is named, up to a full buffer of them', () => {
    const checker = filled(64)
    for (const index of [0, 17, 18, 63]) checker.buffer[index * 8192 + 4000]! ^= 1
    expect(checker.check(0, 64, 0)).toEqual([0, 17, 18, 63])
    expect(checker.check(17 * 8192, 3, 17)).toEqual([0, 1])
    checker.buffer.fill(0xff)
    expect(checker.check(0, 64, 0)).toEqual(Array.from({ length: 64 }, (_, index) => index))
  })

  test('a right page in the place of another one is wrong', () => {
    const checker = filled(4, { firstBlock: 131_072 })
    expect(checker.check(0, 4, 131_072)).toEqual([])
    expect(checker.check(0, 4, 0)).toEqual([0, 1, 2, 3])
    expect(checker.check(8192, 1, 131_073)).toEqual([])
    expect(checker.check(8192, 1, 131_074)).toEqual([0])
  })
})

describe('a new page', () => {
  test('is nothing but zeros', () => {
    const checker = new PageChecker(4 * 8192)
    expect(checker.check(0, 4, 7)).toEqual([])
    for (const byte of [0, 8, 12, 16, 8191]) {
      checker.buffer[2 * 8192 + byte] = 1
      expect(checker.check(0, 4, 7)).toEqual([2])
      checker.buffer[2 * 8192 + byte] = 0
    }
  })

  test('is not excused by a checksum that fits', () => {
    const checker = filled(1)
    checker.buffer.writeUInt16LE(0, 14)
    checker.buffer.writeUInt16LE(checksumOf(checker.buffer, 0), 8)
    expect(checker.check(0, 1, 0)).toEqual([0])
  })
})

describe('LSNs', () => {
  test('the highest of the right pages is kept until it is set back', () => {
    const checker = filled(4)
    seal(checker.buffer.subarray(2 * 8192, 3 * 8192), 2, 0xffff_ffff_0000_0001n)
    seal(checker.buffer.subarray(8192, 2 * 8192), 1, 0x1_0000_0000n)
    expect(checker.maxLsn).toBe(0n)
    checker.check(0, 2, 0)
    expect(checker.maxLsn).toBe(0x1_0000_0000n)
    checker.check(0, 4, 0)
    expect(checker.maxLsn).toBe(0xffff_ffff_0000_0001n)
    expect(checker.lsnAt(2 * 8192)).toBe(0xffff_ffff_0000_0001n)
    checker.maxLsn = 0n
    checker.check(0, 1, 0)
    expect(checker.maxLsn).toBe(1000n)
  })

  test('a wrong page has no say', () => {
    const checker = filled(2)
    checker.buffer.writeUInt32LE(0xffffffff, 8192)
    expect(checker.check(0, 2, 0)).toEqual([1])
    expect(checker.maxLsn).toBe(1000n)
  })
})

test('pages outside of the memory are refused', () => {
  const checker = new PageChecker(4 * 8192)
  expect(checker.memory.byteOffset).toBe(0)
  expect(checker.buffer.length).toBe(4 * 8192)
  expect(checker.check(checker.spareAt, 1, 0)).toEqual([])
  expect(() => checker.check(checker.spareAt + 1, 1, 0)).toThrow(RangeError)
  expect(() => checker.check(0, 6, 0)).toThrow(RangeError)
  expect(() => checker.check(-1, 1, 0)).toThrow(RangeError)
})

test('a thread has a checker of its own', async () => {
  const code = `
    const { parentPort, workerData } = require('node:worker_threads')
    import(workerData.module).then(({ PageChecker }) => {
      const checker = new PageChecker(8192)
      checker.buffer.set(workerData.page)
      const right = checker.check(0, 1, 3)
      parentPort.postMessage({ right, wrong: checker.check(0, 1, 4) })
    })`
  const module = new URL('../../src/postgres/page-checksum.ts', import.meta.url).href
  const worker = new Worker(code, { eval: true, workerData: { module, page: randomPage(random, 3, 1n) } })
  const answer = await new Promise((resolve, reject) => worker.on('message', resolve).on('error', reject))
  expect(answer).toEqual({ right: [], wrong: [0] })
})

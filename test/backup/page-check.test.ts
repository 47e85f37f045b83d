import { closeSync, ftruncateSync, openSync, readFileSync, readSync, writeSync } from 'node:fs'
import { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type BlockRange, damageAmong, PageInspector } from '../../src/backup/page-check.ts'
import { lsn } from '../../src/postgres/lsn.ts'
import { Scratch } from '../lab/scratch.ts'
import { randomBytes, randomPage } from '../postgres/pages.ts'
import { randomFrom } from '../random.ts'
import { COLD, copy, HOT, PAGE, PATH, put, START, STOP, torn } from './copied-relation.ts'

const SEED = 1259

let scratch: Scratch
beforeAll(async () => {
  scratch = await Scratch.create('pages')
})
afterAll(async () => {
  await scratch[Symbol.asyncDispose]()
})

const random = randomFrom(SEED)
const below = (limit: number) => Math.floor(random() * limit)
const oldPage = (block: number) => randomPage(random, block, START - 1n)

/** A file of right pages that are older than the backup. */
async function fileOf(pages: number, firstBlock = 0): Promise<string> {
  return scratch.file(
    'relation',
    Buffer.concat(Array.from({ length: pages }, (_, n) => oldPage(firstBlock + n))),
  )
}

function damage(file: string, ...blocks: number[]): void {
  for (const block of blocks) put(file, block, torn(oldPage(block)))
}

const trouble = (ranges: BlockRange[], pages: number, remainder = 0) => ({
  path: PATH,
  ranges,
  pages,
  remainder,
})

describe('pages are found wherever a file is cut into pieces', () => {
  test.each([
    ['at once', [1 << 20]],
    ['by pages', [PAGE]],
    ['by less than a page', [1000]],
    ['by a byte, then by more', [1, PAGE, 3 * PAGE + 5]],
    ['near the borders', [PAGE - 1, 2, PAGE - 1, 20_000]],
    ['anyhow', Array.from({ length: 50 }, () => 1 + below(30_000))],
  ])('%s', async (_how, pieces) => {
    const file = await fileOf(12)
    expect(copy(file, { pieces }).trouble).toBeUndefined()
    damage(file, 0, 5, 6, 11)
    const { bytes, ...found } = copy(file, { pieces })
    expect(found.trouble).toEqual(
      trouble(
        [
          { block: 0, pages: 1 },
          { block: 5, pages: 2 },
          { block: 11, pages: 1 },
        ],
        4,
      ),
    )
    expect(bytes.equals(readFileSync(file))).toBe(true)
  })
})

test('blocks are those of the relation, and files without pages are let be', async () => {
  const file = await fileOf(3, 2 * 1024)
  const rules = { ...HOT, blocksPerSegment: 1024 }
  expect(copy(file, { rules, path: `${PATH}.2` }).trouble).toBeUndefined()
  expect(copy(file, { rules, path: `${PATH}.1` }).trouble?.ranges).toEqual([{ block: 1024, pages: 3 }])
  const descriptor = openSync(file, 'r')
  expect(new PageInspector(HOT, PAGE).begin('global/pg_control', { file: descriptor })).toBeUndefined()
  closeSync(descriptor)
})

test('the highest LSN is told, of this file only', async () => {
  const file = await fileOf(3)
  put(file, 1, randomPage(random, 1, lsn('A/B0')))
  expect(copy(file).lastLsn).toBe('A/B0')
  const empty = await scratch.file('empty', Buffer.alloc(2 * PAGE))
  const inspector = new PageInspector(HOT, 4 * PAGE)
  for (const [path, expected] of [[file, 'A/B0'] as const, [empty, undefined] as const]) {
    const descriptor = openSync(path, 'r')
    const pages = inspector.begin(PATH, { file: descriptor })!
    const read = readSync(descriptor, inspector.buffer)
    pages.take(inspector.buffer.subarray(0, read), 0)
    expect(pages.end()).toEqual({ isTorn: false, ...(expected && { lastLsn: expected }) })
    closeSync(descriptor)
  }
})

describe('a page that the server writes while it is read', () => {
  const newer = randomPage(random, 1, STOP)
  const older = randomPage(random, 1, START - 1n)
  const finish = (page: Buffer) => (turn: number, file: number) => {
    if (turn === 0) writeSync(file, page, 0, PAGE, PAGE)
  }

  test.each([
    ['newer than the start', newer, HOT],
    ['older than the start', older, HOT],
    ['of a cluster without a server', older, COLD],
  ])('is read again and the copy is mended: %s', async (_what, page, rules) => {
    const file = await fileOf(3)
    put(file, 1, torn(page))
    const { bytes, ...found } = copy(file, { rules, meanwhile: finish(page) })
    expect(found.trouble).toBeUndefined()
    expect(bytes.equals(readFileSync(file))).toBe(true)
  })

  // The first piece ends within block 1, so its first bytes are gone when it turns out to be torn.
  const pieces = [PAGE + 5000, 1 << 20]

  test('is left to replay, when its first bytes are gone and it is newer than the start', async () => {
    const file = await fileOf(3)
    put(file, 1, torn(newer))
    const before = readFileSync(file)
    const { bytes, ...found } = copy(file, { pieces, meanwhile: finish(newer) })
    expect(found.trouble).toBeUndefined()
    expect(found.lastLsn).toBe('0/6000100')
    expect(bytes.subarray(0, pieces[0]).equals(before.subarray(0, pieces[0]))).toBe(true)
    expect(bytes.subarray(pieces[0]).equals(readFileSync(file).subarray(pieces[0]))).toBe(true)
  })

  test.each([
    ['it is older', older, HOT],
    ['no WAL will be replayed', newer, COLD],
  ])('makes a wrong copy, when its first bytes are gone and %s', async (_why, page, rules) => {
    const file = await fileOf(3)
    put(file, 1, torn(page))
    const { trouble: found } = copy(file, { pieces, rules, meanwhile: finish(page) })
    expect(found).toEqual(trouble([{ block: 1, pages: 1 }], 1))
  })

  test('is gone, when the file is truncated', async () => {
    for (const cut of [undefined, pieces]) {
      const file = await fileOf(3)
      damage(file, 1)
      const meanwhile = (turn: number, descriptor: number) => {
        if (turn === (cut ? 1 : 0)) ftruncateSync(descriptor, PAGE)
      }
      expect(copy(file, { meanwhile, ...(cut && { pieces: cut }) }).trouble).toBeUndefined()
    }
  })
})

test('pages that a thread writes without pause are never reported', async () => {
  const pages = 4
  const file = await fileOf(pages)
  const versions = [readFileSync(file), Buffer.concat(Array.from({ length: pages }, (_, n) => oldPage(n)))]
  const stop = new Int32Array(new SharedArrayBuffer(4))
  const code = `
    const { parentPort, workerData } = require('node:worker_threads')
    const { openSync, writeSync } = require('node:fs')
    const { file, versions, stop } = workerData
    const descriptor = openSync(file, 'r+')
    parentPort.postMessage('writing')
    for (let turn = 0; Atomics.load(stop, 0) === 0; turn++) {
      for (let at = 0; at < versions[0].length; at += ${PAGE}) writeSync(descriptor, versions[turn % 2], at, ${PAGE}, at)
    }`
  const writer = new Worker(code, { eval: true, workerData: { file, versions, stop } })
  const ended = new Promise((resolve) => writer.on('exit', resolve))
  await new Promise((resolve, reject) => writer.on('message', resolve).on('error', reject))
  const inspector = new PageInspector(HOT, pages * PAGE)
  const descriptor = openSync(file, 'r')
  const found = []
  // Where the filesystem lets a reader see half a page, one in some thousands is torn.
  for (let turn = 0; turn < 20_000; turn++) {
    const inspected = inspector.begin(PATH, { file: descriptor })!
    readSync(descriptor, inspector.buffer, 0, pages * PAGE, 0)
    inspected.take(inspector.buffer, 0)
    found.push(inspected.end().trouble)
  }
  Atomics.store(stop, 0, 1)
  await ended
  closeSync(descriptor)
  expect(found.filter((trouble) => trouble !== undefined)).toEqual([])
})

describe('a page that stays wrong', () => {
  const withLsn = async (value: bigint) => {
    const file = await fileOf(4)
    put(file, 2, torn(randomPage(random, 2, value)))
    return file
  }

  test('is damage when it is older than the backup', async () => {
    const { trouble: found } = copy(await withLsn(START - 1n))
    expect(found).toEqual(trouble([{ block: 2, pages: 1 }], 1))
    expect(damageAmong([found!], STOP)).toEqual([found])
  })

  test.each([START, STOP])('is being written when its LSN lies in the backup: %i', async (value) => {
    const { trouble: found, lastLsn } = copy(await withLsn(value))
    expect(found).toEqual(trouble([{ block: 2, pages: 1, newestLsn: value }], 1))
    expect(damageAmong([found!], STOP)).toEqual([])
    expect(lsn(lastLsn!)).toBe(value)
  })

  test('is damage when its LSN lies behind the end of the backup', async () => {
    const { trouble: found } = copy(await withLsn(STOP + 1n))
    expect(found!.ranges).toEqual([{ block: 2, pages: 1, newestLsn: STOP + 1n }])
    expect(damageAmong([found!], STOP)).toEqual([found])
  })

  test('is damage without a server, whatever its LSN', async () => {
    const { trouble: found } = copy(await withLsn(STOP), { rules: COLD })
    expect(found).toEqual(trouble([{ block: 2, pages: 1 }], 1))
    expect(damageAmong([found!], undefined)).toEqual([found])
  })

  test('is damage when it is a new one with something in it', async () => {
    const file = await fileOf(4)
    put(file, 2, Buffer.alloc(PAGE))
    expect(copy(file).trouble).toBeUndefined()
    put(file, 2, Buffer.from(Buffer.alloc(PAGE).fill(1, 100, 101)))
    expect(copy(file).trouble?.ranges).toEqual([{ block: 2, pages: 1 }])
  })
})

describe('many wrong pages', () => {
  test('are listed as ranges, which are judged one by one', async () => {
    const file = await fileOf(9)
    damage(file, 0, 1)
    for (const [block, value] of [
      [2, STOP - 5n],
      [3, STOP],
      [5, STOP],
      [6, STOP + 1n],
    ] as const) {
      put(file, block, torn(randomPage(random, block, value)))
    }
    damage(file, 7)
    const { trouble: found } = copy(file)
    expect(found).toEqual(
      trouble(
        [
          { block: 0, pages: 2 },
          { block: 2, pages: 2, newestLsn: STOP },
          { block: 5, pages: 2, newestLsn: STOP + 1n },
          { block: 7, pages: 1 },
        ],
        7,
      ),
    )
    const [judged] = damageAmong([found!], STOP)
    expect(judged!.ranges.map(({ block }) => block)).toEqual([0, 5, 7])
    expect(judged!.pages).toBe(5)
  })

  test('are counted all, and a hundred ranges of them are listed', async () => {
    const file = await fileOf(300)
    damage(file, ...Array.from({ length: 150 }, (_, n) => 2 * n))
    const { trouble: found } = copy(file)
    expect(found!.pages).toBe(150)
    expect(found!.ranges).toHaveLength(100)
    expect(found!.ranges.at(-1)).toEqual({ block: 198, pages: 1 })
  })

  test('end the hope that the server writes them', async () => {
    const file = await fileOf(120)
    damage(file, ...Array.from({ length: 101 }, (_, n) => n), 110)
    const mend = (turn: number, descriptor: number) => {
      if (turn === 1) writeSync(descriptor, oldPage(110), 0, PAGE, 110 * PAGE)
    }
    const { trouble: found } = copy(file, { pieces: [105 * PAGE, 1 << 20], meanwhile: mend })
    expect(found!.ranges).toEqual([
      { block: 0, pages: 101 },
      { block: 110, pages: 1 },
    ])
  })
})

describe('a file that ends within a page', () => {
  const extra = randomBytes(random, 100)

  test('is told of', async () => {
    const file = await scratch.file('relation', Buffer.concat([oldPage(0), extra]))
    expect(copy(file).trouble).toEqual(trouble([], 0, 100))
    expect(copy(file, { pieces: [50] }).trouble).toEqual(trouble([], 0, 100))
    expect(damageAmong([copy(file).trouble!], STOP)).toHaveLength(1)
  })

  test('is no trouble when the server was only just adding the page', async () => {
    const grow = (_turn: number, file: number) => void writeSync(file, oldPage(1), 0, PAGE, PAGE)
    const file = await scratch.file('relation', Buffer.concat([oldPage(0), extra]))
    expect(copy(file, { meanwhile: grow }).trouble).toBeUndefined()
  })
})

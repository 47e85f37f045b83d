import { hash, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import type { Codec } from '../../src/archive/codec.ts'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { pathInCluster } from '../../src/catalog/layout.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { finalFiles } from '../../src/reconstruction/final-files.ts'
import { reconstructionOf } from '../../src/reconstruction/reconstruction.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { encryptedRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { BLOCK, ChainMaker, increment, type Made } from './chain-maker.ts'
import { RandomChain } from './random-chain.ts'

let scratch: Scratch
let plain: Repository
beforeEach(async () => {
  scratch = await Scratch.create('chain')
  plain = plainRepository('local', new LocalStorage(join(scratch.path, 'repository')))
})
afterEach(() => scratch[Symbol.asyncDispose]())

interface Result {
  content: Buffer
  asRecorded: boolean
}

/** All files of a chain, by their paths in the cluster, each checked against the sum that comes with it. */
async function filesOf(chain: readonly BackupRecord[], repository = plain): Promise<Map<string, Result>> {
  const reconstruction = await reconstructionOf(chain, repository)
  const files = new Map<string, Result>()
  for (const base of reconstruction.baseShards()) {
    for await (const file of finalFiles(base, reconstruction.shards, repository)) {
      const pieces: Buffer[] = []
      const content = file.content()
      let next = await content.next()
      for (; !next.done; next = await content.next()) pieces.push(Buffer.from(next.value))
      const bytes = Buffer.concat(pieces)
      expect(bytes.length, file.path).toBe(file.size)
      expect(hash('sha256', bytes), file.path).toBe(next.value)
      files.set(pathInCluster(file.group, file.path), { content: bytes, asRecorded: file.asRecorded })
    }
  }
  return files
}

async function chainOf(...links: Made[][]): Promise<BackupRecord[]> {
  const maker = new ChainMaker(plain)
  for (const files of links) await maker.add({ files })
  return maker.chain
}

const blocks = (...fills: number[]) => Buffer.concat(fills.map((fill) => Buffer.alloc(BLOCK, fill)))
const one = (number: number, fill: number) => new Map([[number, Buffer.alloc(BLOCK, fill)]])
const TABLE = 'base/5/16384'

/** The blocks of the table after these links, each as the number that fills it. */
async function tableOf(...links: Made[][]): Promise<number[]> {
  const { content } = (await filesOf(await chainOf(...links))).get(TABLE)!
  return Array.from({ length: content.length / BLOCK }, (_, block) => {
    const bytes = content.subarray(block * BLOCK, (block + 1) * BLOCK)
    expect(bytes.equals(Buffer.alloc(BLOCK, bytes[0]))).toBe(true)
    return bytes[0]!
  })
}

const whole = (...fills: number[]): Made => ({ path: TABLE, content: blocks(...fills) })

test('the newest block wins, and what did not change is that of the full backup', async () => {
  const links = [
    [whole(1, 2, 3, 4)],
    [increment(TABLE, 4, one(1, 20))],
    [increment(TABLE, 4)],
    [increment(TABLE, 5, new Map([...one(1, 21), ...one(4, 50)]))],
  ]
  expect(await tableOf(...links)).toEqual([1, 21, 3, 4, 50])
})

test('what was cut off does not come back when the file grows again', async () => {
  const cut = increment(TABLE, 1)
  expect(await tableOf([whole(1, 2, 3, 4)], [cut])).toEqual([1])
  expect(await tableOf([whole(1, 2, 3, 4)], [cut], [increment(TABLE, 4)])).toEqual([1, 0, 0, 0])
  expect(await tableOf([whole(1, 2, 3, 4)], [cut], [increment(TABLE, 4, one(2, 9))])).toEqual([1, 0, 9, 0])
  const second = increment(TABLE, 4, one(1, 7))
  expect(await tableOf([whole(1, 2, 3, 4)], [second], [cut], [increment(TABLE, 3)])).toEqual([1, 0, 0])
  expect(
    await tableOf([whole(1, 2, 3, 4)], [second], [increment(TABLE, 2, one(0, 8))], [increment(TABLE, 4)]),
  ).toEqual([8, 7, 0, 0])
})

test('a file that is whole in a middle link begins there', async () => {
  const links = [[whole(1, 1, 1)], [whole(5, 6)], [increment(TABLE, 3, one(2, 7))]]
  expect(await tableOf(...links)).toEqual([5, 6, 7])
})

test('blocks behind the length that the newest link tells belong to the file', async () => {
  expect(await tableOf([whole(1, 2)], [increment(TABLE, 2, one(5, 9))])).toEqual([1, 2, 0, 0, 0, 9])
})

test('only files of the newest link count, and only those that are just its members are as recorded', async () => {
  const chain = await chainOf(
    [whole(1), { path: 'base/5/dropped', content: blocks(3) }, { path: 'PG_VERSION', content: blocks(1) }],
    [increment(TABLE, 1), { path: 'base/5/new', content: Buffer.alloc(0) }],
  )
  const files = await filesOf(chain)
  expect([...files].map(([path, { asRecorded }]) => [path, asRecorded]).toSorted()).toEqual([
    [TABLE, false],
    ['base/5/new', true],
  ])
})

test('the label loses the lines of an incremental backup, and only them', async () => {
  const label = 'START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nLABEL: caf\udce9\n'
  const bytes = Buffer.from(label, 'latin1')
  const lines = Buffer.from('INCREMENTAL FROM LSN: 0/1000028\nINCREMENTAL FROM TLI: 1\n')
  const chain = await chainOf(
    [{ path: 'backup_label', content: Buffer.from('other') }],
    [{ path: 'backup_label', content: Buffer.concat([bytes, lines]) }],
  )
  expect((await filesOf(chain)).get('backup_label')).toEqual({ content: bytes, asRecorded: false })
})

const CODECS: Codec[] = [{ method: 'zstd', level: 1 }, { method: 'gzip', level: 1 }, { method: 'none' }]

test.each(CODECS)('files of many frames, encrypted or not: %o', async (codec) => {
  const { identity, recipient } = await newIdentity()
  const sealed = encryptedRepository(
    'sealed',
    new LocalStorage(join(scratch.path, 'sealed')),
    [recipient],
    [identity],
  )
  const base = randomBytes(1700 * BLOCK)
  const large = new Map(Array.from({ length: 700 }, (_, at) => [at * 2, randomBytes(BLOCK)]))
  const small = new Map(Array.from({ length: 20 }, (_, at) => [100 + at * 70, randomBytes(BLOCK)]))
  const expected = Buffer.from(base)
  for (const [block, bytes] of [...large, ...small]) bytes.copy(expected, block * BLOCK)
  for (const repository of [plain, sealed]) {
    const maker = new ChainMaker(repository, codec)
    const noise = { path: 'base/5/3', content: randomBytes(5_000_000) }
    await maker.add({ files: [noise, { path: TABLE, content: base }, { path: 'base/5/1', content: base }] })
    await maker.add({ files: [noise, increment(TABLE, 1700, large), increment('base/5/1', 1700)] })
    await maker.add({ files: [increment('base/5/1', 1700), increment(TABLE, 1700, small)] })
    const files = await filesOf(maker.chain, repository)
    expect(files.get(TABLE)!.content.equals(expected)).toBe(true)
    expect(files.get('base/5/1')!.content.equals(base)).toBe(true)
  }
})

test.each(Array.from({ length: 12 }, (_, seed) => seed))(
  'random chains are what each block says: seed %i',
  async (seed) => {
    const drawn = new RandomChain(seed)
    const length = 1 + (seed % 8)
    for (let link = 0; link < length; link++) drawn.addLink(30)
    const maker = new ChainMaker(plain)
    for (const files of drawn.links) {
      const half = Math.floor(files.length / 2)
      await maker.add({ files, shards: [files.slice(0, half), files.slice(half)] })
    }
    const files = await filesOf(maker.chain)
    expect([...files.keys()].toSorted()).toEqual([...drawn.expected.keys()].toSorted())
    for (const [path, content] of drawn.expected)
      expect(files.get(path)!.content.equals(content), `${path} of seed ${seed}`).toBe(true)
  },
)

test.each<[string, Made[][], RegExp]>([
  [
    'an increment of a file that nobody has',
    [[], [increment(TABLE, 2, one(1, 1))]],
    /base\/5\/16384.*is not in/,
  ],
  ['the same without blocks', [[], [increment(TABLE, 2)]], /base\/5\/16384.*is not in/],
  [
    'a link that leaves the file out',
    [[whole(1)], [], [increment(TABLE, 1)]],
    /changed blocks of base\/5\/16384 only.*20260102T000000Z-incr/,
  ],
  [
    'a file twice in a link',
    [[whole(1)], [whole(1), increment(TABLE, 1)]],
    /20260102T000000Z-incr.*base\/5\/16384 twice/,
  ],
  [
    'wrong bytes in an increment',
    [[whole(1, 2)], [{ ...increment(TABLE, 2, one(1, 9)), sha256: 'ab'.repeat(32) }]],
    /20260102T000000Z-incr.*INCREMENTAL\.16384: its SHA-256/,
  ],
  [
    'wrong bytes in a block that does not count',
    [
      [whole(1, 2)],
      [{ ...increment(TABLE, 2, one(1, 9)), sha256: 'ab'.repeat(32) }],
      [increment(TABLE, 2, one(1, 8))],
    ],
    /INCREMENTAL\.16384: its SHA-256/,
  ],
  [
    'wrong bytes in the whole copy, which has a newer block for each',
    [
      [{ ...whole(1, 2), sha256: 'ab'.repeat(32) }],
      [increment(TABLE, 2, new Map([...one(0, 8), ...one(1, 9)]))],
    ],
    /20260101T000000Z-full.*base\/5\/16384: its SHA-256/,
  ],
  [
    'wrong bytes in a file that did not change',
    [[{ ...whole(1), sha256: 'ab'.repeat(32) }], [increment(TABLE, 1)]],
    /base\/5\/16384: its SHA-256/,
  ],
  [
    'blocks beyond the end of a segment',
    [[whole(1)], [increment(TABLE, 1, one(131_072, 1))]],
    /INCREMENTAL\.16384: it has block 131072/,
  ],
  [
    'what is no increment',
    [[whole(1)], [{ ...increment(TABLE, 1), content: Buffer.alloc(BLOCK, 1) }]],
    /INCREMENTAL\.16384: it does not begin/,
  ],
  [
    'an increment that is cut off',
    [
      [whole(1)],
      [{ ...increment(TABLE, 1), content: increment(TABLE, 1, one(0, 1)).content.subarray(0, BLOCK) }],
    ],
    /INCREMENTAL\.16384: it has 8192 bytes/,
  ],
  [
    'blocks in another order',
    [[whole(1, 2)], [increment(TABLE, 2, new Map([...one(1, 1), ...one(0, 1)]))]],
    /INCREMENTAL\.16384: its blocks are in another order/,
  ],
])('refused: %s', async (_what, links, message) => {
  const chain = await chainOf(...links)
  await expect(filesOf(chain)).rejects.toMatchObject({
    kind: 'damaged',
    message: expect.stringMatching(message),
  })
})

test('a place in the index where the member is not is refused', async () => {
  const files = [whole(1, 2), { path: 'base/5/1', content: blocks(3) }]
  for (const shift of [512, -512, 7 * BLOCK, -3000]) {
    const maker = new ChainMaker(plain)
    const lie = <File extends { path: string; offset: number }>(file: File) =>
      file.path === TABLE ? { ...file, offset: file.offset + shift } : file
    await maker.add({ files, lie })
    await expect(filesOf(maker.chain), `${shift}`).rejects.toMatchObject({ kind: 'damaged' })
  }
})

test('an index that lists other files than the manifest is refused, and one whose bytes are others', async () => {
  const maker = new ChainMaker(plain)
  const record = await maker.add({ files: [whole(1)], lie: (file) => ({ ...file, path: 'base/5/1' }) })
  await expect(filesOf([record])).rejects.toMatchObject({
    message: expect.stringMatching(/list other files/),
  })
  const [good] = await chainOf([whole(1)])
  const objects = good!.objects.map((object) =>
    object.kind === 'index' ? { ...object, sha256: 'ab'.repeat(32) } : object,
  )
  await expect(filesOf([{ ...good!, objects }])).rejects.toMatchObject({
    message: expect.stringMatching(/index\.jsonl.*not those that were stored/),
  })
})

test('a shard that is read whole is checked against its stored sum', async () => {
  const [good] = await chainOf([whole(1)])
  const objects = good!.objects.map((object) =>
    object.kind === 'shard' ? { ...object, sha256: 'ab'.repeat(32) } : object,
  )
  await expect(filesOf([{ ...good!, objects }])).rejects.toMatchObject({
    message: expect.stringMatching(/base\.0001\.tar.*not those that were stored/),
  })
})

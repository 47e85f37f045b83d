import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import type { Codec } from '../../src/archive/codec.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { finalFiles } from '../../src/reconstruction/final-files.ts'
import { reconstructionOf } from '../../src/reconstruction/reconstruction.ts'
import { type PlainRange, ShardContent, type StoredShard } from '../../src/reconstruction/shard-content.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import type { GetOptions, Storage } from '../../src/storage/storage.ts'
import { encryptedRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { randomFrom } from '../random.ts'
import { BLOCK, ChainMaker, increment } from './chain-maker.ts'

const FRAME = 4 * 1024 * 1024
const SIZE = 6 * FRAME + 12_345

let scratch: Scratch
beforeEach(async () => {
  scratch = await Scratch.create('shard')
})
afterEach(() => scratch[Symbol.asyncDispose]())

/** A storage that notes which ranges of shards are asked for. */
function noted(storage: Storage): { storage: Storage; asked: (GetOptions['range'] | undefined)[] } {
  const asked: (GetOptions['range'] | undefined)[] = []
  const get = (key: string, options?: GetOptions) => {
    if (key.includes('.tar')) asked.push(options?.range)
    return storage.get(key, options)
  }
  return {
    asked,
    storage: new Proxy(storage, { get: (target, name) => (name === 'get' ? get : bound(target, name)) }),
  }
}

function bound(target: Storage, name: string | symbol): unknown {
  const value = Reflect.get(target, name)
  return typeof value === 'function' ? value.bind(target) : value
}

async function stored(
  repository: Repository,
  codec: Codec,
): Promise<{ shard: StoredShard; content: Buffer; offset: number }> {
  // Half of it can be compressed, so that frames lie in uneven places.
  const content = Buffer.concat([randomBytes(SIZE >> 1), Buffer.alloc(SIZE - (SIZE >> 1), 'row')])
  const maker = new ChainMaker(repository, codec)
  await maker.add({ files: [{ path: 'base/5/1', content }] })
  const reconstruction = await reconstructionOf(maker.chain, repository)
  const [base] = [...reconstruction.baseShards()]
  return { shard: reconstruction.shards[0]!, content, offset: base!.members[0]!.offset }
}

async function read(repository: Repository, shard: StoredShard, ranges: PlainRange[]): Promise<Buffer[]> {
  const reader = new ShardContent(repository, shard).reader(ranges)
  const pieces: Buffer[] = []
  for (const { offset, size } of ranges) pieces.push(await reader.copy(offset, Buffer.alloc(size)))
  await reader.finish()
  await reader.close()
  return pieces
}

const CODECS: Codec[] = [{ method: 'zstd', level: 1 }, { method: 'gzip', level: 1 }, { method: 'none' }]

test.each(CODECS)('any part of a shard can be read, also of an encrypted one: %o', async (codec) => {
  const { identity, recipient } = await newIdentity()
  const storage = new LocalStorage(join(scratch.path, 'repository'))
  const random = randomFrom(5)
  const repositories = [
    plainRepository('local', storage),
    encryptedRepository('sealed', storage, [recipient], [identity]),
  ]
  for (const repository of repositories) {
    const { shard, content, offset } = await stored(repository, codec)
    const ends = [0, 1, FRAME - offset, FRAME - offset + 1, 2 * FRAME - offset - 1, SIZE - 1, SIZE]
    for (let at = 0; at < 30; at++) ends.push(Math.floor(random() * SIZE))
    ends.sort((a, b) => a - b)
    const spans = ends.slice(1).map((end, index) => ({ from: ends[index]!, to: end }))
    for (const chosen of [
      spans,
      spans.filter((_, at) => at % 7 === 3),
      spans.slice(-1),
      spans.slice(9, 10),
    ]) {
      const wanted = chosen.filter(({ from, to }) => to > from)
      const ranges = wanted.map(({ from, to }) => ({ offset: offset + from, size: to - from }))
      const pieces = await read(repository, shard, ranges)
      for (const [at, { from, to }] of wanted.entries())
        expect(pieces[at]!.equals(content.subarray(from, to)), `${from} to ${to}`).toBe(true)
    }
  }
})

test('a shard that is needed whole is one request, and of another only what is needed is read', async () => {
  const { storage, asked } = noted(new LocalStorage(join(scratch.path, 'repository')))
  const repository = plainRepository('local', storage)
  const noise = (bytes: number) => randomBytes(bytes)
  const maker = new ChainMaker(repository, { method: 'none' })
  await maker.add({
    files: [
      { path: 'base/5/1', content: noise(10 * FRAME) },
      { path: 'base/5/2', content: noise(BLOCK) },
      { path: 'base/5/3', content: noise(10 * FRAME) },
    ],
  })
  const drain = async () => {
    asked.length = 0
    const reconstruction = await reconstructionOf(maker.chain, repository)
    for (const base of reconstruction.baseShards()) {
      for await (const file of finalFiles(base, reconstruction.shards, repository)) {
        const content = file.content()
        while (!(await content.next()).done);
      }
    }
  }
  await drain()
  expect(asked).toEqual([undefined])
  await maker.add({ files: [increment('base/5/2', 1)] })
  await drain()
  expect(asked).toEqual([{ offset: 10 * FRAME, length: FRAME }])
})

test.each(['frames', 'tail'])('damage in the part that is read is told: %s', async (place) => {
  const repository = plainRepository('local', new LocalStorage(join(scratch.path, 'repository')))
  const { shard, offset } = await stored(repository, { method: 'zstd', level: 1 })
  const frames = Float64Array.from(shard.frames)
  if (place === 'frames') frames[2]! += 7
  const hurt = place === 'frames' ? { ...shard, frames } : { ...shard, plainBytes: shard.plainBytes - 1 }
  const range = place === 'frames' ? { offset: offset + FRAME, size: FRAME } : { offset: 6 * FRAME, size: 9 }
  await expect(read(repository, hurt, [range])).rejects.toMatchObject({ kind: 'damaged' })
  await expect(read(repository, shard, [{ offset: shard.plainBytes, size: 1 }])).rejects.toMatchObject({
    kind: 'damaged',
  })
})

test('memory does not grow with the size of a file', async () => {
  const repository = plainRepository('local', new LocalStorage(join(scratch.path, 'repository')))
  const blocks = 20_000
  const changed = new Map(Array.from({ length: blocks / 5 }, (_, at) => [at * 5, Buffer.alloc(BLOCK, at)]))
  const chain = async () => {
    const maker = new ChainMaker(repository)
    await maker.add({ files: [{ path: 'base/5/1', content: Buffer.alloc(blocks * BLOCK, 'row') }] })
    for (let link = 0; link < 3; link++) await maker.add({ files: [increment('base/5/1', blocks, changed)] })
    return maker.chain
  }
  const records = await chain()
  const reconstruction = await reconstructionOf(records, repository)
  const [base] = [...reconstruction.baseShards()]
  const before = process.memoryUsage().arrayBuffers
  let most = 0
  for await (const file of finalFiles(base!, reconstruction.shards, repository)) {
    const content = file.content()
    for (let next = await content.next(); !next.done; next = await content.next())
      most = Math.max(most, process.memoryUsage().arrayBuffers - before)
  }
  expect(most).toBeLessThan(64 * 1024 * 1024)
})

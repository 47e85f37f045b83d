import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { newIdentity, readSealHeader } from '../../src/archive/age.ts'
import type { StoredIn } from '../../src/backup/backup-store.ts'
import { storeManifest } from '../../src/backup/closing-objects.ts'
import type { BackupRun, Taken } from '../../src/backup/method.ts'
import { storeShard } from '../../src/backup/shard.ts'
import { ObjectSum } from '../../src/catalog/object-sum.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { readContent } from '../../src/catalog/sealed-object.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { readObject, type Storage } from '../../src/storage/storage.ts'
import { encryptedRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { storeIn } from './opened.ts'

const FOLDER = 'main/backups/20261120T231500Z-full/'
const CODEC = { method: 'zstd', level: 1 } as const
const PIECES = 40

let scratch: Scratch
let lost: Map<string, unknown>

beforeEach(async (context) => {
  scratch = await Scratch.create('store')
  context.onTestFinished(() => scratch[Symbol.asyncDispose]())
  lost = new Map()
})

const storageOf = (name: string) => new LocalStorage(join(scratch.path, name))
const plain = (name: string) => plainRepository(name, storageOf(name))

/** 40 pieces of 64 KiB, each its number, all in one buffer that is written over for the next. */
async function* pieces(failAfter = PIECES, failure?: Error): AsyncGenerator<Buffer> {
  const buffer = Buffer.alloc(64 * 1024)
  for (let number = 0; number < failAfter; number++) yield buffer.fill(number)
  if (failure) throw failure
}

const CONTENT = Buffer.concat(
  Array.from({ length: PIECES }, (_, number) => Buffer.alloc(64 * 1024).fill(number)),
)

/** A repository whose store fails after it has taken so many pieces of an object. */
function failing(name: string, after: number, error = new Error(`${name} is away`)): Repository {
  const storage = storageOf(name)
  const put: Storage['put'] = (key, source, options) => {
    const cut = async function* () {
      let taken = 0
      for await (const piece of source as AsyncIterable<Buffer>) {
        if (taken++ === after) throw error
        yield piece
      }
    }
    return storage.put(key, cut(), options)
  }
  return plainRepository(name, Object.assign(Object.create(storage) as Storage, { put }))
}

describe('an object that is put', () => {
  test('is the same in every repository, whatever each of them does with it', async () => {
    const key = await newIdentity()
    const secret = encryptedRepository('secret', storageOf('secret'), [key.recipient], [key.identity])
    const repositories = [plain('one'), secret, plain('two')]
    const stored = await storeIn(repositories, FOLDER).put('object', pieces())
    expect(Object.keys(stored)).toEqual(['one', 'secret', 'two'])
    expect(stored.two).toEqual(stored.one)
    for (const repository of repositories) {
      const { name, ...facts } = stored[repository.name]!
      const isSecret = repository === secret
      expect(name).toBe(isSecret ? 'object.age' : 'object')
      const object = (await readObject(repository.storage, FOLDER + name))!
      const sum = new ObjectSum(isSecret)
      sum.push(object)
      expect(facts).toEqual(sum.end())
      expect(object.equals(CONTENT)).toBe(!isSecret)
      const content = await readContent(repository, FOLDER + name)
      expect(CONTENT.equals(Buffer.concat(await copies(content!)))).toBe(true)
    }
  })

  test.each([0, 1, PIECES - 1])('is whole in one although the other fails after %i pieces', async (after) => {
    const repositories = [failing('bad', after), plain('good')]
    const store = storeIn(repositories, FOLDER, { lost })
    const stored = await store.put('object', pieces())
    expect(Object.keys(stored)).toEqual(['good'])
    expect([...lost]).toEqual([['bad', expect.objectContaining({ message: 'bad is away' })]])
    expect(CONTENT.equals((await readObject(repositories[1]!.storage, `${FOLDER}object`))!)).toBe(true)
    expect(await Array.fromAsync(storageOf('bad').list(''))).toEqual([])
    // It is not asked again.
    expect(store.repositories.map(({ name }) => name)).toEqual(['good'])
    expect(Object.keys(await store.put('other', pieces()))).toEqual(['good'])
    expect(lost.size).toBe(1)
  })

  test('fails when the last repository does, and ends its source', async () => {
    let isEnded = false
    const source = async function* () {
      try {
        yield* pieces()
      } finally {
        isEnded = true
      }
    }
    const store = storeIn([failing('one', 3), failing('two', 5)], FOLDER, { lost })
    await expect(store.put('object', source())).rejects.toThrow('is away')
    expect([...lost.keys()].sort()).toEqual(['one', 'two'])
    expect(isEnded).toBe(true)
    await expect(store.put('other', pieces())).rejects.toThrow('no repository is left')
  })

  test.each([
    ['fails', new Error('the page cannot be read'), undefined],
    ['is stopped', undefined, new Error('enough')],
  ])('blames no repository when its source %s', async (_what, failure, reason) => {
    const stop = new AbortController()
    const source = async function* () {
      yield* pieces(10, failure)
      stop.abort(reason)
      yield* pieces()
    }
    const storing = storeIn([plain('one'), plain('two')], FOLDER, { lost }).put('object', source(), {
      signal: stop.signal,
    })
    await expect(storing).rejects.toBe(failure ?? reason)
    expect(lost.size).toBe(0)
    for (const name of ['one', 'two']) expect(await Array.fromAsync(storageOf(name).list(''))).toEqual([])
  })
})

test('a run can read its own indexes, and nothing else of what it encrypts', async () => {
  const [configured, own] = [await newIdentity(), await newIdentity()]
  const repository = encryptedRepository('secret', storageOf('secret'), [configured.recipient])
  const store = storeIn([repository], FOLDER, { indexRecipient: own.recipient })
  const { stored, index } = await storeOne(store, 'base.0001')
  const recipientsOf = async ({ secret }: StoredIn) =>
    readSealHeader((await readObject(repository.storage, FOLDER + secret!.name))!)?.recipients
  expect([await recipientsOf(stored), await recipientsOf(index)]).toEqual([1, 2])
  const reader = encryptedRepository('reader', repository.storage, [], [own.identity])
  const reading = async ({ secret }: StoredIn) =>
    Array.fromAsync((await readContent(reader, FOLDER + secret!.name))!)
  await expect(reading(index)).resolves.toHaveLength(1)
  await expect(reading(stored)).rejects.toMatchObject({ kind: 'key' })
})

test.each(['gone', 'damaged'])(
  'a manifest is written also when an index in the first repository is %s',
  async (what) => {
    const repositories = [plain('one'), plain('two')]
    const store = storeIn(repositories, FOLDER, { lost })
    const shards = [await storeOne(store, 'base.0001'), await storeOne(store, 'base.0002')]
    const key = `${FOLDER}${shards[1]!.index.one!.name}`
    if (what === 'gone') await repositories[0]!.storage.remove(key)
    else
      await repositories[0]!.storage.put(key, (await readObject(repositories[0]!.storage, key))!.subarray(9))
    const run = { store, request: { codec: { method: 'none' } }, indexIdentities: [] }
    const ends = { timeline: 1, start: { lsn: 1n }, stop: { lsn: 2n }, label: 'label' }
    const facts = { systemIdentifier: '1', majorVersion: 15 }
    const taken = { shards, ends, facts } as unknown as Taken
    await storeManifest(run as unknown as BackupRun, taken)
    expect([...lost]).toEqual([['one', expect.any(Error)]])
    expect(store.repositories).toEqual([repositories[1]])
    const text = String(await readObject(repositories[1]!.storage, `${FOLDER}backup_manifest`))
    const { Files } = JSON.parse(text) as { Files: { Path: string }[] }
    expect(Files.map(({ Path }) => Path)).toEqual([
      'base.0001-a',
      'base.0001-b',
      'base.0002-a',
      'base.0002-b',
    ])
  },
)

/** A shard of two files that are named after it. */
function storeOne(store: ReturnType<typeof storeIn>, name: string) {
  return storeShard(store, { name: `${name}.tar.zst`, group: 'base', codec: CODEC }, function* (shard) {
    for (const path of [`${name}-a`, `${name}-b`]) {
      const member = { path, type: 'file', size: 7, mode: 0o600, mtime: 0, uid: 0, gid: 0 } as const
      const offset = yield* shard.writer.member(member, (room) => room.write('content'))
      shard.add({ path, size: 7, modifiedMs: 0, sha256: '00', offset }, true)
    }
  })
}

async function copies(chunks: AsyncIterable<Buffer>): Promise<Buffer[]> {
  const kept: Buffer[] = []
  for await (const chunk of chunks) kept.push(Buffer.from(chunk))
  return kept
}

import { createHash, randomBytes } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { newIdentity, Opener, Sealer } from '../../src/archive/age.ts'
import { type Codec, codecSuffix, compressFrame } from '../../src/archive/codec.ts'
import { ShardWriter } from '../../src/archive/shard-writer.ts'
import { ObjectSum } from '../../src/catalog/object-sum.ts'
import { FileSet } from '../../src/reconstruction/file-set.ts'
import { type ExtractJob, extractShard } from '../../src/restore/extract-shard.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { noKey, plainRepository } from '../lab/repositories.ts'

let folder = ''
let storage: LocalStorage
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'pgrecall-shard-'))
  storage = new LocalStorage(join(folder, 'repository'))
  await mkdir(join(folder, 'root'))
})
afterEach(() => rm(folder, { recursive: true }))

const CODECS: Codec[] = [{ method: 'zstd', level: 1 }, { method: 'gzip', level: 1 }, { method: 'none' }]
const FILES: Record<string, Buffer> = {
  PG_VERSION: Buffer.from('15\n'),
  'base/1/1259': randomBytes(3 * 8192),
  'base/1/2619': Buffer.concat([randomBytes(8192), Buffer.alloc(6 * 1024 * 1024), randomBytes(8192)]),
  'base/1/empty': Buffer.alloc(0),
  'pg_wal/000000010000000000000001': Buffer.alloc(1024 * 1024),
}

/** Stores a shard and gives the job that unpacks it. */
async function store(codec: Codec, files = FILES, more: Partial<ExtractJob> = {}): Promise<ExtractJob> {
  const writer = new ShardWriter()
  const frames: Buffer[] = []
  for (const [path, content] of Object.entries(files)) {
    const facts = { type: 'file', mode: 0o600, mtime: 1_700_000_000, uid: 0, gid: 0 } as const
    let at = 0
    const fill = (room: Buffer) => {
      const copied = content.copy(room, 0, at)
      at += copied
      return copied
    }
    for (const frame of writer.member({ path, size: content.length, ...facts }, fill)) {
      frames.push(Buffer.from(compressFrame(codec, frame)))
    }
  }
  for (const frame of writer.finish()) frames.push(Buffer.from(compressFrame(codec, frame)))
  const stored = Buffer.concat(frames)
  const name = `base.0001.tar${codecSuffix(codec)}`
  await storage.put(name, stored)
  const sha256 = createHash('sha256').update(stored).digest('hex')
  const root = join(folder, 'root')
  const object = { name, bytes: stored.length, sha256 }
  const job = { key: name, object, root, prefix: '', renamed: {}, closed: [] }
  return { ...job, isWal: false, ...more }
}

function extract(job: ExtractJob, syncFiles = false, onBytes: (count: number) => void = () => {}) {
  const repository = plainRepository('local', storage)
  return extractShard(job, { repository, owner: undefined, syncFiles, onBytes, onFile: () => {} })
}

const setOf = (files: Record<string, Buffer>, prefix = '') => {
  const set = new FileSet()
  for (const [path, content] of Object.entries(files)) {
    set.add(prefix + path, content.length, createHash('sha256').update(content).digest('hex'))
  }
  return set.facts()
}

test.each(CODECS)('every file is as it was, and adds to the set: %o', async (codec) => {
  for (const syncFiles of [false, true]) {
    const shard = await extract(await store(codec), syncFiles)
    for (const [path, content] of Object.entries(FILES)) {
      expect((await readFile(join(folder, 'root', path))).equals(content), path).toBe(true)
    }
    expect(shard.files).toEqual(setOf(FILES))
    expect(shard.folders.toSorted()).toEqual(['base', 'base/1', 'pg_wal'])
    await rm(join(folder, 'root'), { recursive: true })
    await mkdir(join(folder, 'root'))
  }
})

test('WAL has no holes, and is in no manifest', async () => {
  const wal = { 'pg_wal/000000010000000000000001': Buffer.alloc(1024 * 1024) }
  const shard = await extract(await store({ method: 'zstd', level: 1 }, wal, { isWal: true }))
  expect(shard.files.count).toBe(0)
  const { blocks } = await stat(join(folder, 'root/pg_wal/000000010000000000000001'))
  expect(blocks * 512).toBeGreaterThanOrEqual(1024 * 1024)
})

test('a tablespace has its files under its own names in the manifest', async () => {
  const files = { 'PG_15_202209061/5/16400': Buffer.from('a row') }
  const job = await store({ method: 'zstd', level: 1 }, files, { prefix: 'pg_tblspc/16390/' })
  expect((await extract(job)).files).toEqual(setOf(files, 'pg_tblspc/16390/'))
})

test('the marked file waits under another name', async () => {
  const files = { 'global/pg_control': Buffer.alloc(8192, 1) }
  const renamed = { 'global/pg_control': 'global/aside' }
  const shard = await extract(await store({ method: 'zstd', level: 1 }, files, { renamed }))
  expect(await readdir(join(folder, 'root/global'))).toEqual(['aside'])
  expect(shard.files).toEqual(setOf(files))
})

test.each(CODECS)('damage is told as damage, and the object named: %o', async (codec) => {
  const job = await store(codec)
  const bytes = await readFile(join(folder, 'repository', job.key))
  const damages = [
    bytes.subarray(0, bytes.length - 1),
    bytes.subarray(0, 100),
    Buffer.concat([bytes, bytes]),
    Buffer.concat([bytes, Buffer.from('noise')]),
    Buffer.from(bytes).fill(0x55, bytes.length >> 1, (bytes.length >> 1) + 1),
  ]
  for (const [index, damaged] of damages.entries()) {
    const root = join(folder, `damage-${index}`)
    await mkdir(root)
    await storage.put(job.key, damaged)
    await expect(extract({ ...job, root }), `damage ${index}`).rejects.toMatchObject({
      kind: 'damaged',
      message: expect.stringContaining(job.key),
    })
  }
})

test('of an encrypted shard too, whatever part of it is hurt', async () => {
  const { identity, recipient } = await newIdentity()
  const { object, ...job } = await store({ method: 'zstd', level: 1 })
  const seal = await new Sealer([recipient]).seal()
  const plain = await readFile(join(folder, 'repository', job.key))
  const bytes = Buffer.concat([seal.header, seal.encryptWhole([plain])])
  const sum = new ObjectSum(true)
  sum.push(bytes)
  const name = `${object.name}.age`
  const sealed = { ...job, key: name, object: { name, ...sum.end() } }
  const flipped = (at: number) => {
    const hurt = Buffer.from(bytes)
    hurt[at]! ^= 1
    return hurt
  }
  const damages = [
    flipped(3),
    flipped(seal.header.length - 5),
    flipped(seal.header.length + 3),
    flipped(bytes.length >> 1),
    flipped(bytes.length - 1),
    bytes.subarray(0, seal.header.length - 1),
    bytes.subarray(0, bytes.length - 1),
    Buffer.concat([bytes, bytes]),
    // What somebody has encrypted anew: age itself finds nothing wrong with it.
    Buffer.concat([seal.header, seal.encryptWhole([plain])]),
  ]
  const opener = new Opener(async () => [identity])
  const repository = { storage, keys: { opener } }
  const options = { repository, owner: undefined, syncFiles: false, onBytes: () => {}, onFile: () => {} }
  for (const [index, damaged] of damages.entries()) {
    const root = join(folder, `damage-${index}`)
    await mkdir(root)
    await storage.put(name, damaged)
    await expect(extractShard({ ...sealed, root }, options), `damage ${index}`).rejects.toMatchObject({
      kind: 'damaged',
      message: expect.stringContaining(name),
    })
  }
  await storage.put(name, bytes)
  expect((await extractShard(sealed, options)).files).toEqual(setOf(FILES))
  const keyless = { storage, keys: { opener: noKey() } }
  const root = join(folder, 'keyless')
  await mkdir(root)
  await expect(extractShard({ ...sealed, root }, { ...options, repository: keyless })).rejects.toMatchObject({
    kind: 'key',
  })
  expect(await readdir(root)).toEqual([])
})

test('a file that is there already is damage; a folder that cannot be written is not', async () => {
  const job = await store({ method: 'none' })
  await extract(job)
  await expect(extract(job)).rejects.toMatchObject({
    kind: 'damaged',
    message: expect.stringContaining('too'),
  })
  const root = join(folder, 'absent')
  await expect(extract({ ...job, root })).rejects.toMatchObject({
    kind: 'failed',
    message: expect.stringContaining(root),
  })
})

test('the memory it takes does not grow with the shard', async () => {
  const noise = randomBytes(8 * 1024 * 1024)
  const files = Object.fromEntries(Array.from({ length: 24 }, (_, index) => [`base/1/${index}`, noise]))
  const job = await store({ method: 'zstd', level: 1 }, files)
  let most = 0
  const before = process.memoryUsage()
  await extract(job, false, () => {
    const { arrayBuffers } = process.memoryUsage()
    most = Math.max(most, arrayBuffers - before.arrayBuffers)
  })
  expect(most).toBeLessThan(32 * 1024 * 1024)
})

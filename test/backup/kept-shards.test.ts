import { truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import { FRAME_BYTES } from '../../src/archive/shard-writer.ts'
import type { BackupStore } from '../../src/backup/backup-store.ts'
import { copyGroups } from '../../src/backup/copy-pool.ts'
import { KeptShards } from '../../src/backup/resume.ts'
import { SourceList } from '../../src/backup/source-list.ts'
import { markRepository } from '../../src/catalog/identity.ts'
import { acquireLock } from '../../src/catalog/lock.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { Events } from '../../src/events.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { readObject } from '../../src/storage/storage.ts'
import { encryptedRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { storeIn } from './opened.ts'

const FOLDER = 'main/backups/20261120T231500Z-full/'
const CODEC = { method: 'zstd', level: 1 } as const
const NEVER = new AbortController().signal
const MINUTE = 60_000

let scratch: Scratch
let storage: LocalStorage
let root: string

beforeEach(async (context) => {
  scratch = await Scratch.create()
  context.onTestFinished(() => scratch[Symbol.asyncDispose]())
  storage = new LocalStorage(join(scratch.path, 'repository'))
  root = await scratch.folder('source')
})

describe('what an interrupted backup has stored', () => {
  test('is kept while its files have the same size and time', async () => {
    await put('old', MINUTE)
    await copy(['old'])
    expect(await keep()).toEqual({ shards: 1, stored: ['old'] })
  })

  test.each([
    ['grew', () => put('old', MINUTE, 'longer than before')],
    ['was written again', () => put('old', MINUTE - 1)],
    ['is gone', () => truncate(join(root, 'old')).then(() => utimes(join(root, 'old'), 0, 0))],
  ])('is not kept when one of its files %s', async (_what, change) => {
    await put('old', MINUTE)
    await copy(['old'])
    await change()
    expect(await keep()).toEqual({ shards: 0, stored: [] })
    expect(await Array.fromAsync(storage.list(FOLDER))).toEqual([])
  })

  test('is not kept when a file had just been written, however long its copy took', async () => {
    // Its time lies ahead, so that it is young also when a busy machine is slow to begin.
    await put('young', -1500, 'x'.repeat(FRAME_BYTES + 1))
    // Its last byte is read four seconds after the others, and by then it is old.
    await copy(['young'], { maxRate: FRAME_BYTES / 4 })
    expect(await keep()).toEqual({ shards: 0, stored: [] })
  })

  test('is not kept when a file had just been written before the snapshot that it was read from', async () => {
    await put('young', MINUTE)
    await copy(['young'], { frozenAtMs: Date.now() - MINUTE + 500 })
    expect(await keep()).toEqual({ shards: 0, stored: [] })
  })

  test('is not kept when its index ends too early', async () => {
    await put('a', MINUTE)
    await put('b', MINUTE)
    await copy(['a', 'b'])
    const key = `${FOLDER}base.0001.index.jsonl.zst`
    const bytes = (await readObject(storage, key))!
    for (const length of [bytes.length - 1, bytes.length - 20]) {
      await storage.put(key, bytes.subarray(0, length))
      const kept = await KeptShards.find([plainRepository('local', storage)], FOLDER, CODEC)
      await kept.settle(new Map([['base', root]]), 100n, NEVER)
      expect(kept.shards).toEqual([])
      await copy(['a', 'b'])
    }
  })

  test('is not kept in another form than what is stored now has: plain, or for other keys', async () => {
    await put('old', MINUTE)
    const [one, other] = await Promise.all([newIdentity(), newIdentity()])
    const plain = plainRepository('local', storage)
    const sealed = encryptedRepository('local', storage, [one.recipient], [one.identity])
    const forOther = encryptedRepository('local', storage, [other.recipient], [one.identity])
    const offered = async (repository: Repository) =>
      (await KeptShards.find([repository], FOLDER, CODEC)).offeredBytes > 0
    for (const [written, wanted] of [
      [plain, sealed],
      [sealed, plain],
      [sealed, forOther],
    ] as const) {
      await copy(['old'], { repository: written })
      expect(await offered(written)).toBe(true)
      expect(await offered(wanted)).toBe(false)
    }
  })

  test('is not kept for one repository when it was also stored in another, which may have completed it', async () => {
    await put('old', MINUTE)
    const second = plainRepository('second', new LocalStorage(join(scratch.path, 'second')))
    const first = plainRepository('local', storage)
    await copy(['old'], { store: storeIn([first, second], FOLDER) })
    expect((await KeptShards.find([first, second], FOLDER, CODEC)).offeredBytes).toBeGreaterThan(0)
    expect((await KeptShards.find([second], FOLDER, CODEC)).offeredBytes).toBe(0)
  })

  test('is not taken for another codec', async () => {
    await put('old', MINUTE)
    await copy(['old'])
    expect(
      (await KeptShards.find([plainRepository('local', storage)], FOLDER, { method: 'zstd', level: 3 }))
        .offeredBytes,
    ).toBe(0)
  })
})

test('a lock that was taken from a host that fell silent says so', async () => {
  await markRepository(storage)
  await using first = await acquireLock(storage, 'main', { purpose: 'backup', now: () => new Date() })
  expect(first.mayHaveRival).toBe(false)
  const [lock] = await Array.fromAsync(storage.list('main/locks/'))
  const { key } = lock!
  const holder = JSON.parse((await readObject(storage, key))!.toString())
  const silent = { ...holder, id: 'another', host: 'elsewhere', renewedAt: '2026-01-01T00:00:00.000Z' }
  await storage.put(key, Buffer.from(`${JSON.stringify(silent)}\n`))
  await using second = await acquireLock(storage, 'main', {
    purpose: 'backup',
    now: () => new Date(),
    pause: async () => {},
  })
  expect(second.mayHaveRival).toBe(true)
  await expect(first.confirm()).rejects.toMatchObject({ kind: 'busy' })
})

/** A file that was written so long ago. */
async function put(name: string, ageMs: number, content = 'content'): Promise<void> {
  await writeFile(join(root, name), content)
  const then = new Date(Date.now() - ageMs)
  await utimes(join(root, name), then, then)
}

interface CopyExtras {
  maxRate?: number
  frozenAtMs?: number
  repository?: Repository
  store?: BackupStore
}

async function copy(names: string[], { repository, store, ...options }: CopyExtras = {}): Promise<void> {
  const items = new SourceList()
  items.addFiles(
    '',
    names.map((name) => ({ name, size: 7 })),
  )
  await copyGroups([{ name: 'base', root, items }], {
    ...options,
    store: store ?? storeIn([repository ?? plainRepository('local', storage)], FOLDER),
    codec: CODEC,
    jobs: 1,
    task: 'Copying',
    events: new Events(),
    signal: NEVER,
  })
}

async function keep(): Promise<{ shards: number; stored: string[] }> {
  const kept = await KeptShards.find([plainRepository('local', storage)], FOLDER, CODEC)
  await kept.settle(new Map([['base', root]]), 100n, NEVER)
  const stored = ['old', 'young'].filter((name) => kept.isStored('base', name))
  return { shards: kept.shards.length, stored }
}

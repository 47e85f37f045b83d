import { execFileSync } from 'node:child_process'
import { rename, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { receivingKey, walKey } from '../../src/catalog/layout.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { readStoredHistory } from '../../src/catalog/stored-history.ts'
import { segmentName, segmentNumber } from '../../src/postgres/wal-file.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { readObject } from '../../src/storage/storage.ts'
import { pushWalFile } from '../../src/wal/push.ts'
import { readArchivedFile } from '../../src/wal/read.ts'
import { ReceivedDeposit } from '../../src/wal/received-deposit.ts'
import { listReceived } from '../../src/wal/received-files.ts'
import { keysOf } from '../catalog/stored.ts'
import { encryptedRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { SEGMENT, START, WalWriter } from '../postgres/wal-writer.ts'
import { withOtherContent } from './segments.ts'

const FIRST = segmentNumber(START, SEGMENT)
const NAME = segmentName(1, FIRST, SEGMENT)
const NEXT = segmentName(1, FIRST + 1n, SEGMENT)

let scratch: Scratch
let folder: string
let storage: LocalStorage
let identity: string
/** The same repository as a host sees it that can only write, as one that reads, and as one without encryption. */
let writer: Repository
let reader: Repository
let plain: Repository

beforeEach(async () => {
  scratch = await Scratch.create()
  folder = await scratch.folder('pg_wal')
  storage = new LocalStorage(join(scratch.path, 'repository'))
  await storage.create(undefined)
  await claimIdentity(storage, 'main', { systemIdentifier: '42', walSegmentBytes: SEGMENT })
  const key = await newIdentity()
  identity = key.identity
  writer = encryptedRepository('local', storage, [key.recipient])
  reader = encryptedRepository('local', storage, [key.recipient], [identity])
  plain = plainRepository('local', storage)
})
afterEach(() => scratch[Symbol.asyncDispose]())

/** Two segments, one after the other. */
const wal = (() => {
  const writer = new WalWriter(2)
  for (let index = 0; index < 2; index++) {
    writer.at = index * SEGMENT
    writer.page(0, 0)
    writer.segment(index).fill(0x5a, 40)
  }
  return [Buffer.from(writer.segment(0)), Buffer.from(writer.segment(1))] as const
})()

async function push(into: Repository, name = NAME, bytes: Buffer = wal[0]): Promise<string> {
  const path = join(folder, name)
  await writeFile(path, bytes)
  const { repositories } = await pushWalFile({ path, cluster: 'main', repositories: [into], level: 1 })
  return repositories[0]!.result
}
const archived = () => keysOf(storage, 'main/wal/')
const read = (from: Repository, name = NAME) => readArchivedFile(from, 'main', name)
const sealedPath = (name = NAME) => join(storage.location, walKey('main', name, 'sealed'))

describe('a host with public keys', () => {
  test('archives what a host with the secret key reads', async () => {
    expect(await push(writer)).toBe('stored')
    expect(await archived()).toEqual([walKey('main', NAME, 'sealed')])
    expect((await read(reader))?.equals(wal[0])).toBe(true)
    await expect(read(writer)).rejects.toMatchObject({ kind: 'key' })
    await expect(read(plain)).rejects.toMatchObject({ kind: 'key' })
  })

  test('tells the same segment from another one, and replaces neither', async () => {
    await push(writer)
    const before = await readObject(storage, walKey('main', NAME, 'sealed'))
    expect(await push(writer)).toBe('exists')
    await expect(push(writer, NAME, withOtherContent(wal[0]))).rejects.toMatchObject({ kind: 'conflict' })
    expect((await readObject(storage, walKey('main', NAME, 'sealed')))?.equals(before!)).toBe(true)
    expect(await archived()).toHaveLength(1)
  })

  test('does so too with what was stored before there was encryption, and after there is none', async () => {
    await push(plain)
    expect(await push(writer)).toBe('exists')
    await expect(push(writer, NAME, withOtherContent(wal[0]))).rejects.toMatchObject({ kind: 'conflict' })
    await push(writer, NEXT, wal[1])
    expect(await push(plain, NEXT, wal[1])).toBe('exists')
    await expect(push(plain, NEXT, withOtherContent(wal[1]))).rejects.toMatchObject({ kind: 'conflict' })
    expect(await archived()).toEqual([walKey('main', NAME), walKey('main', NEXT, 'sealed')])
    expect((await read(writer))?.equals(wal[0])).toBe(true)
    expect((await read(reader, NEXT))?.equals(wal[1])).toBe(true)
  })

  test.each([
    [
      'without its end',
      async () => truncate(sealedPath(), (await storage.stat(walKey('main', NAME, 'sealed')))!.bytes - 1),
    ],
    ['with more behind its end', () => writeFile(sealedPath(), 'x', { flag: 'a' })],
    ['that is none of ours', () => writeFile(sealedPath(), 'age-encryption.org/v1\n')],
  ])('does not take for stored an object %s', async (_what, damage) => {
    await push(writer)
    await damage()
    await expect(push(writer)).rejects.toMatchObject({ kind: 'damaged' })
    await expect(read(reader)).rejects.toMatchObject({ kind: 'damaged' })
  })

  test('writes nothing by which segments could be compared', async () => {
    await push(writer)
    const [start] = [
      await readObject(storage, walKey('main', NAME, 'sealed'), { range: { offset: 0, length: 4096 } }),
    ]
    await storage.remove(walKey('main', NAME, 'sealed'))
    await push(writer)
    const [again] = [
      await readObject(storage, walKey('main', NAME, 'sealed'), { range: { offset: 0, length: 4096 } }),
    ]
    const note = (bytes: Buffer | undefined) => /pgrecall\/wal (\w+) (\w+)/.exec(bytes!.toString('latin1'))!
    expect(note(start)[1]).not.toBe(note(again)[1])
    expect(note(start)[2]).not.toBe(note(again)[2])
  })

  test('knows the way of the timelines, and that a hole is none', async () => {
    const history = Buffer.from('1\t5/FFE00100\tpromoted\n')
    await push(writer, '00000002.history', history)
    expect(await archived()).toEqual([walKey('main', '00000002.history', 'sealed')])
    expect(await readStoredHistory(storage, 'main', 2)).toEqual({
      ancestors: [{ timeline: 1, switchedAt: '5/FFE00100' }],
    })
    expect((await read(reader, '00000002.history'))?.equals(history)).toBe(true)
    const later = Buffer.from(wal[1])
    later.writeUInt32LE(2, 4)
    await push(writer, segmentName(2, FIRST + 1n, SEGMENT), later)
    // From before the timeline began, and after.
    expect(await read(writer, segmentName(2, FIRST - 1n, SEGMENT))).toBeUndefined()
    await expect(read(writer, segmentName(2, FIRST, SEGMENT))).rejects.toThrow('has a hole')
  })
})

test('an object can be read with age and zstd', async () => {
  await push(writer)
  const keyFile = await scratch.file('key.txt', `${identity}\n`)
  const content = execFileSync('age', ['-d', '-i', keyFile, sealedPath()], { maxBuffer: 2 ** 26 })
  const bytes = execFileSync('zstd', ['-dcq'], { input: content, maxBuffer: 2 ** 26 })
  expect(bytes.equals(wal[0])).toBe(true)
})

test('a wrong key is told in one sentence, with the object', async () => {
  await push(writer)
  const stranger = encryptedRepository('local', storage, [], [(await newIdentity()).identity])
  const failure = await read(stranger).catch((error) => error)
  expect(failure).toMatchObject({ kind: 'key' })
  expect(failure.message).toContain(`${walKey('main', NAME, 'sealed')} cannot be read`)
  expect(failure.message).not.toMatch(/\n|\. /)
})

describe('a segment that is being received', () => {
  const write = async (bytes: number) =>
    writeFile(
      join(folder, `${NAME}.partial`),
      Buffer.concat([wal[0].subarray(0, bytes), Buffer.alloc(SEGMENT - bytes)]),
    )
  const deposit = (repository: Repository) =>
    new ReceivedDeposit({
      directory: folder,
      cluster: 'main',
      repository,
      level: 1,
      intervalMs: 0,
      onStored: () => {},
    })
  const store = async (into: ReceivedDeposit) => into.store(await listReceived(folder), { all: true })
  const reach = async () => {
    const bytes = await read(reader)
    return bytes && bytes.lastIndexOf(0x5a) + 1
  }

  test('is encrypted too, and never gets shorter, though nobody there can read it', async () => {
    await write(5000)
    await store(deposit(writer))
    expect(await archived()).toEqual([receivingKey('main', NAME, 'sealed')])
    expect(await reach()).toBe(5000)
    const again = deposit(writer)
    await write(4000)
    await store(again)
    expect(await reach()).toBe(5000)
    await write(6000)
    await store(again)
    expect(await reach()).toBe(6000)
    await expect(read(writer)).rejects.toMatchObject({ kind: 'key' })
  })

  test('gives way to the encrypted one, and both to the whole one', async () => {
    await write(3000)
    await store(deposit(plain))
    const into = deposit(writer)
    await write(2000)
    await store(into)
    expect(await archived()).toEqual([receivingKey('main', NAME)])
    await write(4000)
    await store(into)
    expect(await archived()).toEqual([receivingKey('main', NAME, 'sealed')])
    await storage.put(receivingKey('main', NAME), Buffer.from('left by another host'))
    await rename(join(folder, `${NAME}.partial`), join(folder, NAME))
    await writeFile(join(folder, NAME), wal[0])
    await store(into)
    expect(await archived()).toEqual([walKey('main', NAME, 'sealed')])
  })
})

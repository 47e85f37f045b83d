import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { receivingKey, walKey } from '../../src/catalog/layout.ts'
import { segmentName, segmentNumber } from '../../src/postgres/wal-file.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { readObject } from '../../src/storage/storage.ts'
import { ReceivedDeposit, type StoredFile, usedBytes } from '../../src/wal/received-deposit.ts'
import { asideFolder, listAside, listReceived, removeAside, setAside } from '../../src/wal/received-files.ts'
import { decodeWalFile } from '../../src/wal/stored-file.ts'
import { plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { SEGMENT, START, WalWriter } from '../postgres/wal-writer.ts'

const NAME = segmentName(1, segmentNumber(START, SEGMENT), SEGMENT)

let scratch: Scratch
let directory: string
let storage: LocalStorage
let told: StoredFile[]

beforeEach(async () => {
  scratch = await Scratch.create()
  directory = await scratch.folder('received')
  storage = new LocalStorage(join(scratch.path, 'repository'))
  await storage.create(undefined)
  await claimIdentity(storage, 'main', { systemIdentifier: '42', walSegmentBytes: SEGMENT })
  told = []
})
afterEach(() => scratch[Symbol.asyncDispose]())

const deposit = (intervalMs = 0, folder = directory) =>
  new ReceivedDeposit({
    directory: folder,
    cluster: 'main',
    repository: plainRepository('local', storage),
    level: 1,
    intervalMs,
    onStored: (file) => told.push(file),
  })

/** A segment of which so many bytes were received. */
function received(bytes: number): Buffer {
  const writer = new WalWriter(1)
  writer.page(0, 0)
  const segment = Buffer.from(writer.segment(0))
  segment.fill(0x5a, 40, bytes)
  segment.fill(0, bytes)
  return segment
}

const write = (bytes: number, name = `${NAME}.partial`) => writeFile(join(directory, name), received(bytes))
const store = async (into: ReceivedDeposit, all = true) => into.store(await listReceived(directory), { all })
const stored = async (key: string) => {
  const object = await readObject(storage, key)
  return object && decodeWalFile(object)
}
const growing = () => stored(receivingKey('main', NAME))

test('a growing segment is stored as it grows, and gives way to the whole one', async () => {
  const into = deposit()
  await write(0)
  await store(into)
  expect(await growing()).toBeUndefined()
  for (const bytes of [100, 5000]) {
    await write(bytes)
    await store(into)
    expect((await growing())?.equals(received(bytes))).toBe(true)
  }
  // Written again by a new connection: the same bytes are not stored twice.
  await write(5000)
  await store(into)
  await rename(join(directory, `${NAME}.partial`), join(directory, NAME))
  await write(SEGMENT, NAME)
  await store(into)
  expect(await growing()).toBeUndefined()
  expect((await stored(walKey('main', NAME)))?.equals(received(SEGMENT))).toBe(true)
  expect(told.map(({ name, bytes }) => [name, bytes])).toEqual([
    [`${NAME}.partial`, 100],
    [`${NAME}.partial`, 5000],
    [NAME, SEGMENT],
  ])
})

test('after the folder was lost, what is stored never gets shorter', async () => {
  await write(5000)
  await store(deposit())
  await rm(join(directory, `${NAME}.partial`))
  const again = deposit()
  for (const bytes of [100, 4000]) {
    await write(bytes)
    await store(again)
    expect(usedBytes((await growing())!)).toBe(5000)
  }
  await write(6000)
  await store(again)
  expect(usedBytes((await growing())!)).toBe(6000)
})

test('what is set aside, even in the middle, is stored from there and not told as a trouble', async () => {
  const into = deposit()
  await write(SEGMENT, NAME)
  const files = await listReceived(directory)
  await setAside(directory)
  await into.store(files, { all: true })
  expect(told).toEqual([])
  expect(await into.has(files.segments[0]!)).toBe(false)
  const aside = deposit(0, asideFolder(directory))
  await aside.store(await listAside(directory), { all: true })
  expect(told.map(({ name }) => name)).toEqual([NAME])
  await removeAside(directory, [NAME])
  expect(await readdir(directory)).toEqual([])
})

test('the interval holds, unless there is no time to lose', async () => {
  const into = deposit(3_600_000)
  await write(100)
  await store(into, false)
  await write(200)
  await store(into, false)
  expect(usedBytes((await growing())!)).toBe(100)
  expect(await into.has((await listReceived(directory)).segments[0]!)).toBe(false)
  await store(into)
  expect(usedBytes((await growing())!)).toBe(200)
  expect(await into.has((await listReceived(directory)).segments[0]!)).toBe(true)
})

test.each<[string, (segment: Buffer) => void, string]>([
  ['of another cluster', (segment) => segment.writeBigUInt64LE(43n, 24), 'conflict'],
  ['of another place', (segment) => segment.writeBigUInt64LE(START + BigInt(SEGMENT), 8), 'damaged'],
  ['of a later timeline', (segment) => segment.writeUInt32LE(7, 4), 'damaged'],
])('a segment %s is not stored', async (_what, change, kind) => {
  const segment = received(100)
  change(segment)
  await writeFile(join(directory, `${NAME}.partial`), segment)
  await expect(store(deposit())).rejects.toMatchObject({ kind })
  expect(await growing()).toBeUndefined()
})

test('the order of the files is that in which pg_receivewal weighs them', async () => {
  await mkdir(join(directory, 'archive_status'))
  const names = ['00000002.history', '000000010000000000000005', '000000020000000000000004.partial']
  names.push('000000020000000000000003', '000000010000000000000004.partial', 'notes.txt')
  for (const name of names) await writeFile(join(directory, name), '')
  const { histories, segments } = await listReceived(directory)
  expect(histories.map(({ name }) => name)).toEqual(['00000002.history'])
  expect(segments.map(({ name }) => name)).toEqual([
    '000000020000000000000003',
    '000000010000000000000004.partial',
    '000000020000000000000004.partial',
    '000000010000000000000005',
  ])
})

import { existsSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { droppedKey, walKey } from '../../src/catalog/layout.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { segmentName, segmentNumber } from '../../src/postgres/wal-file.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { readObject } from '../../src/storage/storage.ts'
import { nobodyAway, Shortfalls } from '../../src/wal/every-repository.ts'
import { readFromAny } from '../../src/wal/fetch.ts'
import { deliverGivenUp } from '../../src/wal/given-up.ts'
import { WalPusher } from '../../src/wal/push.ts'
import { readArchivedFile } from '../../src/wal/read.ts'
import { poll } from '../lab/poll.ts'
import { encryptedRepository, optionalRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { SEGMENT, START, WalWriter } from '../postgres/wal-writer.ts'
import { withOtherContent } from './segments.ts'

const FIRST = segmentNumber(START, SEGMENT)
const NAME = segmentName(1, FIRST, SEGMENT)
const NEXT = segmentName(1, FIRST + 1n, SEGMENT)

let scratch: Scratch
let local: Repository
let offsite: Repository

beforeEach(async () => {
  scratch = await Scratch.create()
  local = plainRepository('local', await open('local'))
  offsite = optionalRepository('offsite', await open('offsite'))
})
afterEach(() => scratch[Symbol.asyncDispose]())

async function open(name: string): Promise<LocalStorage> {
  const storage = new Hanging(join(scratch.path, name))
  await storage.create(undefined)
  await claimIdentity(storage, 'main', { systemIdentifier: '42', walSegmentBytes: SEGMENT })
  return storage
}

/** A store that does not answer any more; a deaf one does not even end when it is told that nobody waits. */
class Hanging extends LocalStorage {
  hangs: 'no' | 'listening' | 'deaf' = 'no'
  asked = 0
  told = 0

  override put(...[key, source, options]: Parameters<LocalStorage['put']>) {
    return this.hangs === 'no' ? super.put(key, source, options) : this.#hang(options?.signal)
  }

  override get(...[key, options]: Parameters<LocalStorage['get']>) {
    return this.hangs === 'no' ? super.get(key, options) : this.#hang(options?.signal)
  }

  #hang(signal: AbortSignal | undefined): Promise<never> {
    this.asked++
    return new Promise((_, reject) => {
      signal?.addEventListener('abort', () => {
        this.told++
        if (this.hangs === 'listening') reject(signal.reason)
      })
    })
  }
}

const segments = (() => {
  const writer = new WalWriter(2)
  return [0, 1].map((index) => {
    writer.at = index * SEGMENT
    writer.page(0, 0)
    return Buffer.from(writer.segment(index).fill(0x5a, 40))
  })
})()

async function fileOf(name: string, change = (bytes: Buffer) => bytes): Promise<string> {
  return scratch.file(name, change(segments[name === NAME ? 0 : 1]!))
}

const pusher = (repositories: Repository[], away = nobodyAway(repositories)) =>
  new WalPusher({ cluster: 'main', repositories, level: 1 }, away)
const has = async ({ storage }: Repository, name: string) =>
  (await storage.stat(walKey('main', name))) !== undefined

test('an optional repository that hangs keeps nothing from the others, and is left alone after that', async () => {
  const hanging = offsite.storage as Hanging
  hanging.hangs = 'deaf'
  const into = pusher([offsite, local])
  const pushed = into.push(await fileOf(NAME))
  await poll(() => has(local, NAME), { what: 'the required repository to have it' })
  expect(hanging.told).toBe(0)
  expect((await pushed).repositories).toEqual([
    { name: 'offsite', result: 'failed', kind: 'repository', reason: 'it did not answer within 10 s' },
    { name: 'local', result: 'stored' },
  ])
  expect((await into.push(await fileOf(NEXT))).repositories).toEqual([
    { name: 'offsite', result: 'skipped' },
    { name: 'local', result: 'stored' },
  ])
  expect(hanging).toMatchObject({ asked: 1, told: 1 })
  expect((await readArchivedFile(local, 'main', NEXT))?.equals(segments[1]!)).toBe(true)
})

test('an optional repository that has other bytes is left as it is, and gets what comes after', async () => {
  await pusher([{ ...offsite, required: true }]).push(await fileOf(NAME, withOtherContent))
  const before = await readObject(offsite.storage, walKey('main', NAME))
  const into = pusher([local, offsite])
  expect((await into.push(await fileOf(NAME))).repositories).toMatchObject([
    { name: 'local', result: 'stored' },
    { name: 'offsite', result: 'failed', kind: 'conflict' },
  ])
  expect((await readObject(offsite.storage, walKey('main', NAME)))?.equals(before!)).toBe(true)
  expect((await into.push(await fileOf(NEXT))).repositories[1]).toEqual({ name: 'offsite', result: 'stored' })
})

test('what a required repository cannot take is a failure, and is stored in the others all the same', async () => {
  const away = plainRepository('away', new LocalStorage(join(scratch.path, 'away')))
  await expect(pusher([away, local, offsite]).push(await fileOf(NAME))).rejects.toMatchObject({
    kind: 'repository',
  })
  expect(await has(local, NAME)).toBe(true)
  expect(await has(offsite, NAME)).toBe(true)
})

test('repositories of the same recipients get the same object, and others another one', async () => {
  const keys = await Promise.all([newIdentity(), newIdentity()])
  const [a, b] = keys.map(({ recipient }) => recipient) as [string, string]
  const all = [
    encryptedRepository('one', await open('one'), [a, b]),
    encryptedRepository('two', await open('two'), [b, a]),
    encryptedRepository('three', await open('three'), [b], [keys[1]!.identity]),
    local,
  ]
  await pusher(all).push(await fileOf(NAME))
  const [one, two, three] = await Promise.all(
    all.map(({ storage }) => readObject(storage, walKey('main', NAME, 'sealed'))),
  )
  expect(one?.equals(two!)).toBe(true)
  expect(one?.equals(three!)).toBe(false)
  expect((await readArchivedFile(all[2]!, 'main', NAME))?.equals(segments[0]!)).toBe(true)
  expect(await has(local, NAME)).toBe(true)
})

test('a repository that hangs does not keep a fetch from another one, and its silence is not "not there"', async () => {
  const hanging = local.storage as Hanging
  await pusher([offsite]).push(await fileOf(NAME))
  hanging.hangs = 'listening'
  const request = { cluster: 'main', repositories: [local, offsite], isHoleFilled: false }
  const found = await readFromAny({ ...request, name: NAME }, { wholeOnly: true })
  expect(found?.repository).toBe('offsite')
  expect(found?.plain.equals(segments[0]!)).toBe(true)
  expect(hanging.told).toBeGreaterThan(0)
  const asked = readFromAny(
    { ...request, name: NEXT, signal: AbortSignal.timeout(4000) },
    { wholeOnly: true },
  )
  await expect(asked).rejects.toThrow()
})

test('what was given up is told to whoever can be reached, and an optional one that cannot keeps no note', async () => {
  const note = await scratch.folder('pg_wal').then(async (folder) => {
    await mkdir(join(folder, 'pgrecall/dropped'), { recursive: true })
    return join(folder, 'pgrecall/dropped', `${NAME}.json`)
  })
  const away = { ...local, name: 'away', storage: new LocalStorage(join(scratch.path, 'file/below')) }
  await scratch.file('file', '')
  const deliver = (repositories: Repository[]) =>
    deliverGivenUp(scratch.path, { cluster: 'main', repositories, level: 1 })
  const told = async ({ storage }: Repository) => (await storage.stat(droppedKey('main', NAME))) !== undefined
  await writeFile(note, '{}')
  await expect(deliver([away, local, offsite])).rejects.toMatchObject({ kind: 'repository' })
  expect(existsSync(note)).toBe(true)
  expect([await told(local), await told(offsite)]).toEqual([true, true])
  await deliver([{ ...away, required: false }, local])
  expect(existsSync(note)).toBe(false)
})

test('what optional repositories lack is one warning for each', () => {
  const shortfalls = new Shortfalls()
  const failed = { name: 'b', result: 'failed', kind: 'repository', reason: 'it is not mounted' } as const
  shortfalls.add(NEXT, [
    { name: 'a', result: 'stored' },
    { name: 'b', result: 'skipped' },
  ])
  shortfalls.add(NAME, [{ name: 'a', result: 'exists' }, failed])
  shortfalls.add(NEXT, [{ ...failed, name: 'c' }])
  expect(shortfalls.warnings).toEqual([
    `the optional repository "b" lacks 2 files, the first of them ${NAME}: it is not mounted; "pgrecall copy" brings it later`,
    `the optional repository "c" lacks ${NEXT}: it is not mounted; "pgrecall copy" brings it later`,
  ])
})

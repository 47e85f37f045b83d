import { truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import { readBackupRecord } from '../../src/catalog/backup-record.ts'
import { loadCatalog } from '../../src/catalog/catalog.ts'
import { chainOf, readChain } from '../../src/catalog/chain.ts'
import { backupPrefix } from '../../src/catalog/layout.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import type { LocalStorage } from '../../src/storage/local.ts'
import type { PutOptions, Source, Storage } from '../../src/storage/storage.ts'
import { encryptedRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { archiveSample, buildingOn, copyAll, idsIn, localStorage, storeSample } from './sample.ts'

const FULL = '20260101T000000Z-full'
const FIRST = '20260102T000000Z-incr'
const SECOND = '20260103T000000Z-incr'
const IDS = [FULL, FIRST, SECOND]

let scratch: Scratch
let here: LocalStorage
let there: LocalStorage
let from: Repository
let to: Repository
beforeEach(async () => {
  scratch = await Scratch.create()
  here = await localStorage(scratch, 'here')
  there = await localStorage(scratch, 'there')
  from = plainRepository('here', here)
  to = plainRepository('there', there)
  await archiveSample(scratch, from, 6)
  const full = await storeSample(from, FULL, 1)
  const first = await storeSample(from, FIRST, 2, buildingOn(full))
  await storeSample(from, SECOND, 4, buildingOn(first))
})
afterEach(() => scratch[Symbol.asyncDispose]())

const copied = (result: Awaited<ReturnType<typeof copyAll>>) => result.backups.map(({ id }) => id)

test('one backup brings all that it builds upon, and what is there is not copied again', async () => {
  expect(copied(await copyAll(from, to, { job: { ids: [FIRST] } }))).toEqual([FULL, FIRST])
  expect(copied(await copyAll(from, to, { job: { ids: ['latest'] } }))).toEqual([SECOND])
  const chain = await readChain(there, (await readBackupRecord(there, 'main', SECOND))!)
  expect(chain).toEqual(await readChain(here, (await readBackupRecord(here, 'main', SECOND))!))
})

test('an encrypted copy is a chain as well', async () => {
  const { recipient } = await newIdentity()
  await copyAll(from, encryptedRepository('there', there, [recipient]))
  const last = (await readBackupRecord(there, 'main', SECOND))!
  expect((await readChain(there, last)).map(({ id }) => id)).toEqual(IDS)
  expect(last.recipients).toEqual([recipient])
})

test('stopped anywhere it leaves no link without those below it, and goes on', async () => {
  const puts: string[] = []
  for (let survived = 1; ; survived += 4) {
    const storage = await localStorage(scratch, `stopped-${survived}`)
    puts.length = 0
    const stopped = copyAll(from, plainRepository('there', stoppingAfter(storage, survived, puts)))
    const done = await stopped.catch(() => undefined)
    const { backups } = await loadCatalog(storage, 'main', { fresh: true })
    for (const backup of backups)
      expect(chainOf(backups, backup).missing, `after ${survived} objects`).toBeUndefined()
    if (done) break
    const again = plainRepository('there', storage)
    await copyAll(from, again)
    expect(await idsIn(again)).toEqual(IDS)
  }
  expect(puts.length).toBeGreaterThan(12)
})

test('a damaged link spoils all above it, and nothing below', async () => {
  await truncate(join(scratch.path, 'here', backupPrefix('main', FIRST), 'base.0002.tar.zst'), 1000)
  const { failures } = await copyAll(from, to)
  expect(failures.map(({ what, error }) => [what, error.kind])).toEqual([
    [`backup ${FIRST}`, 'damaged'],
    [`backup ${SECOND}`, 'damaged'],
  ])
  expect(failures[1]!.error.message).toBe(`${FIRST}, upon which it builds, could not be copied`)
  expect(await idsIn(to)).toEqual([FULL])
})

/** A storage that takes so many objects of backups, and part of one more. */
function stoppingAfter(storage: Storage, survived: number, puts: string[]): Storage {
  return new Proxy(storage, {
    get(target, name) {
      const value = Reflect.get(target, name, target)
      if (name !== 'put') return typeof value === 'function' ? value.bind(target) : value
      return (key: string, content: Source, options?: PutOptions) =>
        target.put(
          key,
          key.includes('/backups/') && puts.push(key) > survived ? dying(content) : content,
          options,
        )
    },
  })
}

async function* dying(content: Source): AsyncGenerator<Uint8Array> {
  const chunks = content instanceof Uint8Array ? [content] : content
  for await (const chunk of chunks) {
    yield chunk.subarray(0, 1)
    throw new Error('killed')
  }
}

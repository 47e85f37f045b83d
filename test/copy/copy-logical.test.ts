import { truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import { loadCatalog } from '../../src/catalog/catalog.ts'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { backupPrefix } from '../../src/catalog/layout.ts'
import { type LogicalRecord, readLogicalRecord } from '../../src/catalog/logical-record.ts'
import { objectsOf, readObjects } from '../../src/catalog/read-objects.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { readWholeContent } from '../../src/catalog/sealed-object.ts'
import { Events } from '../../src/events.ts'
import type { LocalStorage } from '../../src/storage/local.ts'
import { readObject, type Storage } from '../../src/storage/storage.ts'
import { keysOf } from '../catalog/stored.ts'
import { storeDumps } from '../catalog/stored-dumps.ts'
import { encryptedRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { archiveSample, copyAll, idsIn, localStorage, storeSample } from './sample.ts'

const FULL = '20260101T000000Z-full'
const OLD = '20260102T000000Z-logical'
const NEW = '20260103T000000Z-logical'

let scratch: Scratch
let here: LocalStorage
let there: LocalStorage
beforeEach(async () => {
  scratch = await Scratch.create('copy-logical')
  here = await localStorage(scratch, 'here')
  there = await localStorage(scratch, 'there')
})
afterEach(() => scratch[Symbol.asyncDispose]())

const logicalIn = async ({ storage }: Repository) =>
  (await loadCatalog(storage, 'main', { fresh: true })).logical.map(({ id }) => id)

/** What is not as the record says. */
async function faultsIn(repository: Repository, id: string): Promise<string[]> {
  const record = await recordIn(repository, id)
  const faults: string[] = []
  await readObjects(objectsOf(record), {
    repository,
    jobs: 2,
    task: 'test',
    events: new Events(),
    signal: new AbortController().signal,
    onFault: (key, reason) => void faults.push(`${key}: ${reason}`),
  })
  const names = ['backup.json', ...record.objects.map(({ name }) => name)].toSorted()
  const folder = backupPrefix('main', id)
  const stored = (await keysOf(repository.storage, folder)).map((key) => key.slice(folder.length))
  return [...faults, ...stored.filter((name) => !names.includes(name))]
}

async function recordIn({ storage }: Repository, id: string): Promise<LogicalRecord> {
  const record = await readLogicalRecord(storage, 'main', id)
  if (!record) throw new Error(`there is no ${id}`)
  return record
}

/** A storage of which `onGet` hears what is read. */
const withGet = (storage: Storage, onGet: (key: string) => void): Storage =>
  new Proxy<Storage>(storage, {
    get(target, method: keyof Storage) {
      const value: unknown = target[method]
      if (method !== 'get') return typeof value === 'function' ? value.bind(target) : value
      return (...args: Parameters<Storage['get']>) => {
        onGet(args[0])
        return target.get(...args)
      }
    },
  })

describe('to a plain repository', () => {
  let from: Repository
  let to: Repository
  beforeEach(async () => {
    from = plainRepository('here', here)
    to = plainRepository('there', there)
    await claimIdentity(here, 'main', { systemIdentifier: '42', walSegmentBytes: 16 * 1024 * 1024 })
    await storeDumps(from, OLD)
    await storeDumps(from, NEW)
  })

  test('all are copied without any WAL, and a second run copies nothing', async () => {
    const { backups, walFiles, failures } = await copyAll(from, to)
    expect({ ids: backups.map(({ id }) => id), walFiles, failures }).toEqual({
      ids: [OLD, NEW],
      walFiles: 0,
      failures: [],
    })
    expect(await logicalIn(to)).toEqual([OLD, NEW])
    for (const id of [OLD, NEW]) {
      expect(await faultsIn(to, id)).toEqual([])
      expect(await recordIn(to, id)).toEqual(await recordIn(from, id))
    }
    expect((await copyAll(from, to)).plan.steps).toEqual([])
    expect(await keysOf(here, 'main/pins/')).toEqual([])
  })

  test('with physical ones beside them both kinds are there', async () => {
    await scratch[Symbol.asyncDispose]()
    scratch = await Scratch.create('copy-mixed')
    from = plainRepository('here', await localStorage(scratch, 'here'))
    to = plainRepository('there', await localStorage(scratch, 'there'))
    await archiveSample(scratch, from, 3)
    await storeSample(from, FULL, 1)
    await storeDumps(from, NEW)
    await copyAll(from, to, { job: { ids: [NEW] } })
    expect([await idsIn(to), await logicalIn(to)]).toEqual([[], [NEW]])
    await copyAll(from, to, { job: { ids: ['latest'] } })
    expect([await idsIn(to), await logicalIn(to)]).toEqual([[FULL], [NEW]])
  })

  test('latest is the newest of them where there is no other', async () => {
    await copyAll(from, to, { job: { ids: ['latest'] } })
    expect(await logicalIn(to)).toEqual([NEW])
  })

  test('a copy that was stopped is listed nowhere, and goes on with what is there', async () => {
    const stop = new AbortController()
    const stopping = withGet(here, (key) => {
      if (key.includes('crm.dump')) stop.abort(new Error('stopped'))
    })
    const running = copyAll(plainRepository('here', stopping), to, {
      job: { jobs: 1, ids: [OLD] },
      context: { signal: stop.signal },
    })
    await expect(running).rejects.toThrow('stopped')
    expect(await logicalIn(to)).toEqual([])
    const { backups } = await copyAll(from, to, { job: { ids: [OLD] } })
    expect(backups[0]!.resumedBytes).toBeGreaterThan(300_000)
    expect(await faultsIn(to, OLD)).toEqual([])
  })

  test('a dump that is damaged spoils its backup, and no other', async () => {
    await truncate(join(here.location, backupPrefix('main', OLD), 'shop.dump'), 1000)
    const { failures } = await copyAll(from, to)
    expect(failures).toMatchObject([{ what: `backup ${OLD}`, error: { kind: 'damaged' } }])
    expect(await logicalIn(to)).toEqual([NEW])
  })

  test('one of the same id that is another one is a conflict', async () => {
    await claimIdentity(there, 'main', { systemIdentifier: '42', walSegmentBytes: 16 * 1024 * 1024 })
    await storeDumps(to, OLD, { startedAt: '2026-01-01T00:00:01.000Z' })
    await expect(copyAll(from, to)).rejects.toMatchObject({ kind: 'conflict' })
  })
})

test('from an encrypted repository to one with other keys, and to a plain one', async () => {
  const [mine, other] = [await newIdentity(), await newIdentity()]
  const from = encryptedRepository('here', here, [mine.recipient], [mine.identity])
  const to = encryptedRepository('there', there, [other.recipient], [other.identity])
  await claimIdentity(here, 'main', { systemIdentifier: '42', walSegmentBytes: 16 * 1024 * 1024 })
  await storeDumps(from, OLD)
  expect((await copyAll(from, to)).failures).toEqual([])
  expect(await faultsIn(to, OLD)).toEqual([])
  const record = await recordIn(to, OLD)
  expect(record.recipients).toEqual([other.recipient])
  const contentOf = (repository: Repository, name: string) =>
    readWholeContent(repository, backupPrefix('main', OLD) + name)
  expect(await contentOf(to, 'shop.dump.age')).toEqual(await contentOf(from, 'shop.dump.age'))

  const plain = plainRepository('plain', await localStorage(scratch, 'plain'))
  await copyAll(from, plain)
  expect(await faultsIn(plain, OLD)).toEqual([])
  expect(await recordIn(plain, OLD)).not.toHaveProperty('recipients')
  expect(await contentOf(plain, 'shop.dump')).toEqual(await contentOf(from, 'shop.dump.age'))
  const text = (await readObject(plain.storage, `${backupPrefix('main', OLD)}RESTORE.txt`))!.toString()
  expect(text).toContain('shop.dump"')
  expect(text).not.toContain('age -d')
})

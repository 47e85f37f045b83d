import { rename, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { newIdentity, readSealHeader, Sealer } from '../../src/archive/age.ts'
import { type BackupRecord, readBackupRecord } from '../../src/catalog/backup-record.ts'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { backupPrefix, backupRecordKey, walKey } from '../../src/catalog/layout.ts'
import { acquireLock } from '../../src/catalog/lock.ts'
import { isAsRecorded, ObjectSum } from '../../src/catalog/object-sum.ts'
import { livingPins } from '../../src/catalog/pin.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { isSealed, readWholeContent } from '../../src/catalog/sealed-object.ts'
import { readShardIndex } from '../../src/catalog/shard-index.ts'
import { PgrecallError } from '../../src/errors.ts'
import { Events } from '../../src/events.ts'
import { applyRetention } from '../../src/retention/apply.ts'
import type { LocalStorage } from '../../src/storage/local.ts'
import { readObject, type Storage } from '../../src/storage/storage.ts'
import { readArchivedFile } from '../../src/wal/read.ts'
import { encodeWalFile } from '../../src/wal/stored-file.ts'
import { keysOf } from '../catalog/stored.ts'
import { sha256 } from '../crash/repository.ts'
import { encryptedRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { withOtherContent } from '../wal/segments.ts'
import { archiveSample, copyAll, idsIn, localStorage, sampleSegment, storeSample } from './sample.ts'

const OLD = '20260101T000000Z-full'
const NEW = '20260102T000000Z-full'
const SEGMENTS = 6

let scratch: Scratch
let here: LocalStorage
let there: LocalStorage
let wal: Buffer[]

beforeEach(async () => {
  scratch = await Scratch.create()
  here = await localStorage(scratch, 'here')
  there = await localStorage(scratch, 'there')
})
afterEach(() => scratch[Symbol.asyncDispose]())

async function fill(source: Repository): Promise<void> {
  wal = await archiveSample(scratch, source, SEGMENTS)
  await storeSample(source, OLD, 1)
  await storeSample(source, NEW, 3)
}

/** What is wrong with a repository: every object is compared with its record, and all WAL is read. */
async function problemsIn(repository: Repository): Promise<string[]> {
  const problems: string[] = []
  const { storage } = repository
  for (const id of await idsIn(repository)) {
    const record = (await readBackupRecord(storage, 'main', id))!
    problems.push(...(await wrongObjects(repository, record)))
    const { walFile } = record.start
    const plain = await readArchivedFile(repository, 'main', walFile).catch((error: Error) => error)
    if (!(plain instanceof Buffer)) problems.push(`${id} needs ${walFile}: ${plain}`)
  }
  return problems
}

async function wrongObjects(repository: Repository, record: BackupRecord): Promise<string[]> {
  const { storage, keys } = repository
  const folder = backupPrefix('main', record.id)
  const problems: string[] = []
  const names = ['backup.json', ...record.objects.map(({ name }) => name)]
  for (const key of await keysOf(storage, folder))
    if (!names.includes(key.slice(folder.length))) problems.push(`${key} is in no record`)
  for (const object of record.objects) {
    const bytes = await readObject(storage, folder + object.name)
    const sum = new ObjectSum(isSealed(object.name))
    if (bytes) sum.push(bytes)
    if (!bytes || !isAsRecorded(object, sum.end())) problems.push(`${object.name} is not as recorded`)
    if (object.kind !== 'text' && isSealed(object.name) !== (keys.sealer !== undefined))
      problems.push(`${object.name} has the wrong form`)
    await readWholeContent(repository, folder + object.name)
    if (object.kind !== 'index') continue
    const { head } = (await readShardIndex(repository, folder + object.name))!
    const { name, bytes: size, sha256 } = record.objects.find((shard) => shard.name === head.shard)!
    expect(head).toMatchObject({ shard: name, bytes: size, sha256 })
  }
  return problems
}

const contentOf = async (storage: Storage, prefix: string) =>
  Object.fromEntries(
    await Promise.all(
      (await keysOf(storage, prefix)).map(async (key) => [key, sha256((await readObject(storage, key))!)]),
    ),
  )

/** The records may have their keys in another order. */
async function expectSameBackups(): Promise<void> {
  const objectsIn = async (storage: Storage) => {
    const all = await contentOf(storage, 'main/backups/')
    return Object.entries(all).filter(([key]) => !key.endsWith('/backup.json'))
  }
  expect(await objectsIn(there)).toEqual(await objectsIn(here))
  for (const id of [OLD, NEW])
    expect(await readBackupRecord(there, 'main', id)).toEqual(await readBackupRecord(here, 'main', id))
}

describe('from a plain repository to a plain one', () => {
  let from: Repository
  let to: Repository
  beforeEach(async () => {
    from = plainRepository('here', here)
    to = plainRepository('there', there)
    await fill(from)
  })

  test('all is copied as it is, and a second run copies nothing', async () => {
    const { backups, walFiles, failures } = await copyAll(from, to)
    // The first one is older than the oldest backup.
    expect({ ids: backups.map(({ id }) => id), walFiles, failures }).toEqual({
      ids: [OLD, NEW],
      walFiles: SEGMENTS - 1,
      failures: [],
    })
    expect(await problemsIn(to)).toEqual([])
    await expectSameBackups()
    const { [walKey('main', sampleSegment(0))]: _old, ...archived } = await contentOf(here, 'main/wal/')
    expect(await contentOf(there, 'main/wal/')).toEqual(archived)
    const again = await copyAll(from, to)
    expect(again.plan.steps).toEqual([])
    expect(again).toMatchObject({ backups: [], walFiles: 0 })
    expect(await keysOf(there, 'main/locks/')).toEqual([])
    expect(await keysOf(here, 'main/pins/')).toEqual([])
  })

  test('a copy that was stopped goes on with what is there', async () => {
    const stop = new AbortController()
    const events = new Events()
    // Two shards and a manifest of the first backup are on their way or there.
    const stopsLate = withGet(here, (key) => {
      if (key.includes(`${OLD}/backup_manifest`)) stop.abort(new Error('stopped'))
    })
    const running = copyAll(plainRepository('here', stopsLate), to, {
      job: { jobs: 1 },
      context: { signal: stop.signal, events },
    })
    await expect(running).rejects.toThrow('stopped')
    expect(await idsIn(to)).toEqual([])
    const { backups } = await copyAll(from, to)
    expect(backups[0]!.resumedBytes).toBeGreaterThan(600_000)
    expect(await problemsIn(to)).toEqual([])
    expect(await idsIn(to)).toEqual([OLD, NEW])
  })

  test('a backup that only the catalog believes in is copied', async () => {
    await copyAll(from, to)
    // The newest folders are looked at by everybody.
    for (let day = 10; day < 28; day++)
      await there.put(
        `${backupPrefix('main', `202601${day}T000000Z-full`)}left`,
        Buffer.from('by another run'),
      )
    await there.remove(backupRecordKey('main', OLD))
    expect((await copyAll(from, to)).backups.map(({ id }) => id)).toEqual([OLD])
    expect(await problemsIn(to)).toEqual([])
  })

  test('a destination in which nothing may be removed gets all the same', async () => {
    const denied = new PgrecallError('repository', 'access denied')
    const kept = new Proxy(there, {
      get: (target, name) => {
        if (name === 'remove') return () => Promise.reject(denied)
        const value = Reflect.get(target, name, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
    expect((await copyAll(from, plainRepository('there', kept))).failures).toEqual([])
    expect(await idsIn(to)).toEqual([OLD, NEW])
    expect(await readObject(there, `${backupPrefix('main', OLD)}copying.json`)).toEqual(Buffer.alloc(0))
  })

  test('debris that is not its own is no part of a copy', async () => {
    await claimIdentity(there, 'main', { systemIdentifier: '42', walSegmentBytes: wal[0]!.length })
    await there.put(`${backupPrefix('main', OLD)}base.0001.tar.zst`, Buffer.from('of an interrupted backup'))
    await there.put(`${backupPrefix('main', OLD)}base.0009.tar.zst`, Buffer.from('of an interrupted backup'))
    expect((await copyAll(from, to)).backups[0]!.resumedBytes).toBe(0)
    expect(await problemsIn(to)).toEqual([])
  })

  test.each([
    ['another byte', async (path: string) => writeFile(path, Buffer.from('x'), { flag: 'r+' })],
    ['a byte less', async (path: string) => truncate(path, 1000)],
    ['nothing', async (path: string) => rename(path, `${path}.away`)],
  ])('a shard with %s spoils its backup, and no other', async (what, damage) => {
    await damage(join(here.location, backupPrefix('main', OLD), 'base.0002.tar.zst'))
    const { failures } = await copyAll(from, to)
    expect(failures).toHaveLength(1)
    expect(failures[0]!.what).toBe(`backup ${OLD}`)
    expect(failures[0]!.error.kind).toBe(what === 'nothing' ? 'failed' : 'damaged')
    expect(failures[0]!.error.message).toContain('base.0002.tar.zst')
    expect(await idsIn(to)).toEqual([NEW])
    expect(await keysOf(there, `${backupPrefix('main', OLD)}base.0002`)).toEqual([])
  })

  test('a damaged segment is not copied, nor the backup that needs it', async () => {
    const place = (index: number) => join(here.location, walKey('main', sampleSegment(index)))
    await writeFile(place(3), encodeWalFile(withOtherContent(wal[3]!), 1).object.subarray(0, -1))
    await writeFile(place(5), encodeWalFile(wal[4]!, 1).object)
    const { failures } = await copyAll(from, to)
    expect(failures.map(({ what, error }) => [what, error.kind])).toEqual([
      [sampleSegment(3), 'damaged'],
      [`backup ${NEW}`, 'damaged'],
      [sampleSegment(5), 'damaged'],
    ])
    expect(await idsIn(to)).toEqual([OLD])
    expect(await keysOf(there, 'main/wal/')).toEqual(
      [1, 2, 4].map((index) => walKey('main', sampleSegment(index))),
    )
  })

  test('WAL of a server that went another way is a conflict, and nothing is overwritten', async () => {
    await copyAll(from, to)
    const [last, before] = [5, 4].map((index) => walKey('main', sampleSegment(index)))
    await there.remove(last!)
    await there.put(before!, encodeWalFile(withOtherContent(wal[4]!), 1).object)
    const content = await contentOf(there, 'main/wal/')
    const failure = await copyAll(from, to).catch((error) => error)
    expect(failure).toMatchObject({ kind: 'conflict' })
    expect(failure.message).toContain(`${sampleSegment(4)} in repository "here" and in "there"`)
    expect(await contentOf(there, 'main/wal/')).toEqual(content)
  })

  test.each([
    ['the same', () => wal[4]!],
    ['another', () => withOtherContent(wal[4]!)],
  ])('the archiver may store %s file meanwhile', async (what, make) => {
    const key = walKey('main', sampleSegment(4))
    const bytes = make()
    const archives = withGet(here, async (asked) => {
      if (asked === key) await there.put(key, encodeWalFile(bytes, 1).object)
    })
    const copied = copyAll(plainRepository('here', archives), to)
    if (what === 'another') await expect(copied).rejects.toMatchObject({ kind: 'conflict' })
    else expect(await copied).toMatchObject({ walFiles: SEGMENTS - 2, failures: [] })
    expect((await readArchivedFile(to, 'main', sampleSegment(4)))?.equals(bytes)).toBe(true)
  })

  test('retention in the source keeps what is being read', async () => {
    let removed: number | undefined
    const expires = withGet(here, async (key) => {
      if (removed !== undefined || !key.includes(`${OLD}/base.0001`)) return
      expect((await livingPins(here, 'main', new Date())).map(({ backup }) => backup).sort()).toEqual([
        OLD,
        NEW,
      ])
      const context = {
        repository: from,
        events: new Events(),
        signal: new AbortController().signal,
        now: () => new Date(),
      }
      removed = (await applyRetention('main', { full: 1 }, context)).removedBackups
    })
    expect(await copyAll(plainRepository('here', expires), to)).toMatchObject({ failures: [] })
    expect(removed).toBe(0)
    expect(await idsIn(to)).toEqual([OLD, NEW])
    expect(await problemsIn(to)).toEqual([])
  })

  test('waits for nobody else who writes to the destination', async () => {
    const now = () => new Date()
    await using _lock = await acquireLock(there, 'main', { purpose: 'backup', now })
    await expect(copyAll(from, to)).rejects.toMatchObject({ kind: 'busy' })
    expect(await keysOf(there, 'main/backups/')).toEqual([])
  })

  test('another cluster of the same name is refused', async () => {
    await claimIdentity(there, 'main', { systemIdentifier: '43', walSegmentBytes: wal[0]!.length })
    await expect(copyAll(from, to)).rejects.toMatchObject({ kind: 'conflict' })
    expect(await keysOf(there, 'main/wal/')).toEqual([])
  })
})

describe('between forms', () => {
  let a: { identity: string; recipient: string }
  let b: { identity: string; recipient: string }
  beforeEach(async () => {
    a = await newIdentity()
    b = await newIdentity()
  })
  const sealed = (name: string, storage: Storage, key: typeof a, identities = [key.identity]) =>
    encryptedRepository(name, storage, [key.recipient], identities)

  test.each([
    ['plain to encrypted', () => plainRepository('here', here), () => sealed('there', there, a)],
    ['encrypted to plain', () => sealed('here', here, a), () => plainRepository('there', there)],
    ['encrypted to other keys', () => sealed('here', here, a), () => sealed('there', there, b)],
  ])('%s', async (_what, source, destination) => {
    const [from, to] = [source(), destination()]
    await fill(from)
    expect(await copyAll(from, to)).toMatchObject({ failures: [], walFiles: SEGMENTS - 1 })
    expect(await problemsIn(to)).toEqual([])
    expect(await idsIn(to)).toEqual([OLD, NEW])
    for (let index = 1; index < SEGMENTS; index++) {
      const plain = await readArchivedFile(to, 'main', sampleSegment(index))
      expect(plain?.equals(wal[index]!)).toBe(true)
    }
    const { recipients, finishedAt, storedBytes, objects } = (await readBackupRecord(there, 'main', OLD))!
    expect(recipients).toEqual(to.keys.sealer?.recipients)
    expect(finishedAt).toBe((await readBackupRecord(here, 'main', OLD))!.finishedAt)
    expect(storedBytes).toBe(objects.reduce((sum, { bytes }) => sum + bytes, 0))
    expect((await copyAll(from, to)).plan.steps).toEqual([])
  })

  test('what was encrypted anew before it was stopped is not done again', async () => {
    const [from, to] = [sealed('here', here, a), sealed('there', there, b, [])]
    await fill(from)
    const stop = new AbortController()
    const stopping = withGet(here, (key) => {
      if (key.includes(`${OLD}/backup_manifest`)) stop.abort(new Error('stopped'))
    })
    const interrupted = copyAll({ ...from, storage: stopping }, to, {
      job: { jobs: 1 },
      context: { signal: stop.signal },
    })
    await expect(interrupted).rejects.toThrow('stopped')
    expect((await copyAll(from, to)).backups[0]!.resumedBytes).toBeGreaterThan(600_000)
    expect(await problemsIn(sealed('there', there, b))).toEqual([])
  })

  test('without a key, the same bytes go where the keys are the same', async () => {
    const from = sealed('here', here, a, [])
    const to = sealed('there', there, a, [])
    await fill(from)
    expect(await copyAll(from, to)).toMatchObject({ failures: [], walFiles: SEGMENTS - 1 })
    await expectSameBackups()
    expect(await problemsIn(sealed('there', there, a))).toEqual([])
  })

  test('what a rotation of keys has changed is read and encrypted, the rest is not', async () => {
    const from = sealed('here', here, a, [a.identity, b.identity])
    await fill(from)
    const shard = `${backupPrefix('main', OLD)}base.0001.tar.zst.age`
    const segment = walKey('main', sampleSegment(2), 'sealed')
    for (const key of [shard, segment]) {
      const object = (await readObject(here, key))!
      const old = object.subarray(0, readSealHeader(object)!.headerBytes)
      const header = await from.keys.opener.rewrap(old, new Sealer([b.recipient]))
      await here.replaceStart(key, old.length, header)
    }
    const to = sealed('there', there, a)
    expect(await copyAll(from, to)).toMatchObject({ failures: [] })
    expect(await problemsIn(to)).toEqual([])
    expect((await readArchivedFile(to, 'main', sampleSegment(2)))?.equals(wal[2]!)).toBe(true)
    const sums = async (storage: Storage) =>
      (await readBackupRecord(storage, 'main', OLD))!.objects.map(({ name, sha256 }) => `${name} ${sha256}`)
    const [before, after] = [await sums(here), await sums(there)]
    const isNew = (text: string) => !before.includes(text)
    expect(after.filter(isNew).map((text) => text.split(' ')[0])).toEqual([
      'base.0001.tar.zst.age',
      'base.0001.index.jsonl.zst.age',
      'base.0002.index.jsonl.zst.age',
    ])
  })

  test('without a key, what ends too early does not pass', async () => {
    const from = sealed('here', here, a, [])
    await fill(from)
    const place = join(here.location, walKey('main', sampleSegment(5), 'sealed'))
    await truncate(place, (await here.stat(walKey('main', sampleSegment(5), 'sealed')))!.bytes - 1)
    const { failures } = await copyAll(from, sealed('there', there, a, []))
    expect(failures.map(({ what, error }) => [what, error.kind])).toEqual([[sampleSegment(5), 'damaged']])
  })

  test('without a key, nothing goes where the keys are other ones', async () => {
    const from = sealed('here', here, a, [])
    await fill(from)
    const to = plainRepository('there', there)
    await expect(copyAll(from, to)).rejects.toMatchObject({ kind: 'key' })
    expect(await idsIn(to)).toEqual([])
    expect(await keysOf(there, 'main/wal/')).toEqual([])
  })

  test('a damaged object is found although it is decrypted', async () => {
    const from = sealed('here', here, a)
    await fill(from)
    const place = join(here.location, backupPrefix('main', OLD), 'base.0002.tar.zst.age')
    await writeFile(place, (await readObject(here, `${backupPrefix('main', OLD)}base.0001.tar.zst.age`))!)
    const { failures } = await copyAll(from, sealed('there', there, b))
    expect(failures.map(({ what, error }) => [what, error.kind])).toEqual([[`backup ${OLD}`, 'damaged']])
    expect(await idsIn(sealed('there', there, b))).toEqual([NEW])
  })
})

/** A storage that does something before an object is read. */
function withGet(storage: LocalStorage, before: (key: string) => unknown): Storage {
  const get: Storage['get'] = async (key, options) => {
    await before(key)
    return storage.get(key, options)
  }
  return new Proxy(storage, {
    get: (target, name) => {
      if (name === 'get') return get
      const value = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

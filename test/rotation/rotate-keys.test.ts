import { existsSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { newIdentity, readSealHeader } from '../../src/archive/age.ts'
import { readBackupRecord } from '../../src/catalog/backup-record.ts'
import { updateCatalog } from '../../src/catalog/catalog.ts'
import { readStoredCatalog } from '../../src/catalog/catalog-file.ts'
import { markRepository } from '../../src/catalog/identity.ts'
import { backupRecordKey, receivingKey } from '../../src/catalog/layout.ts'
import { acquireLock } from '../../src/catalog/lock.ts'
import { isAsRecorded } from '../../src/catalog/object-sum.ts'
import { readStoredHistory } from '../../src/catalog/stored-history.ts'
import { PgrecallError } from '../../src/errors.ts'
import { Events } from '../../src/events.ts'
import { type RotationRequest, type RotationResult, rotateKeys } from '../../src/rotation/rotate-keys.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import { type PutOptions, readObject, type Source, type Storage } from '../../src/storage/storage.ts'
import { AGE_PROGRAMS, ageDecrypt } from '../archive/age-program.ts'
import { gatewayMissing, sharedGateway } from '../lab/gateway.ts'
import { encryptedRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import {
  archive,
  copyOf,
  DEBRIS,
  emptyRepository,
  FOLDER,
  factsOf,
  fill,
  ID,
  type KeyPair,
  readable,
  SEGMENTS,
  sealedKeys,
  segmentKey,
  storeSealedBackup,
  sums,
} from './encrypted.ts'

const REQUEST: RotationRequest = { cluster: 'main', jobs: 3, dryRun: false }
/** Six objects of two backups, two segments and a history. */
const OBJECTS = 9

let scratch: Scratch
let before: KeyPair
let after: KeyPair
/** Encrypted to `before`. */
let original: LocalStorage
let copies = 0

beforeAll(async () => {
  scratch = await Scratch.create('rotation')
  before = await newIdentity()
  after = await newIdentity()
  original = await emptyRepository(scratch, 'original')
  await fill(scratch, encryptedRepository('local', original, [before.recipient]))
  await updateCatalog(original, 'main', new Date())
})
afterAll(() => scratch[Symbol.asyncDispose]())

const copy = () => copyOf(original, join(scratch.path, `copy-${++copies}`))
const opened = (storage: Storage, recipients: KeyPair[], identities: KeyPair[]) =>
  encryptedRepository(
    'local',
    storage,
    recipients.map(({ recipient }) => recipient),
    identities.map(({ identity }) => identity),
  )
/** As the host sees it that rotates. */
const rotating = (storage: Storage) => opened(storage, [after], [after, before])
const context = (signal = new AbortController().signal, events = new Events()) => ({
  events,
  signal,
  now: () => new Date(),
})
const rotate = (storage: LocalStorage, request: Partial<RotationRequest> = {}): Promise<RotationResult> =>
  rotateKeys({ ...REQUEST, ...request }, rotating(storage), context())

/** All that a rotation has to reach. */
async function expectRotated(storage: LocalStorage): Promise<void> {
  expect(await readable(opened(storage, [after], [after]))).toEqual(await sealedKeys(storage))
  expect(await readable(opened(storage, [before], [before]))).toEqual([])
  expect(await sums(storage, { payloads: true, except: NEW })).toEqual(
    await sums(original, { payloads: true, except: NEW }),
  )
  const record = (await readBackupRecord(storage, 'main', ID))!
  expect(record.recipients).toEqual([after.recipient])
  for (const { name, bytes, sha256, header } of record.objects) {
    expect(await factsOf(storage, FOLDER + name)).toEqual({ bytes, sha256, ...(header && { header }) })
  }
  expect(record.storedBytes).toBe(record.objects.reduce((sum, { bytes }) => sum + bytes, 0))
  const { recipients: _recipients, objects: _objects, storedBytes: _stored, ...rest } = record
  expect((await readBackupRecord(original, 'main', ID))!).toMatchObject(rest)
  const text = (await readObject(storage, `${FOLDER}RESTORE.txt`))!.toString()
  expect(text).toContain(after.recipient)
  expect(text).not.toContain(before.recipient)
}
/** What is written anew, beside headers. */
const NEW = /catalog\.json$|backup\.json$|RESTORE\.txt$/

describe('a rotation', () => {
  test('gives every object to the new recipients, with the very payload that it had', async () => {
    const storage = await copy()
    const result = await rotate(storage)
    expect(result).toEqual({
      rewrapped: OBJECTS,
      current: 0,
      headerBytes: expect.any(Number),
      failures: [],
      records: 1,
      plain: 0,
      receiving: 1,
    })
    await expectRotated(storage)
    let headerBytes = 0
    for (const key of await sealedKeys(storage))
      headerBytes += readSealHeader((await readObject(storage, key))!)!.headerBytes
    expect(result.headerBytes).toBe(headerBytes)
    expect((await readStoredCatalog(storage, 'main', '42'))?.backups[0]?.recipients).toEqual([
      after.recipient,
    ])
    expect(await rotating(storage).storage.names('main/locks/')[Symbol.asyncIterator]().next()).toMatchObject(
      {
        done: true,
      },
    )
  })

  test('keeps the notes: hosts without a key still compare segments, and know the timelines', async () => {
    const storage = await copy()
    await rotate(storage)
    expect(await archive(scratch, opened(storage, [after], []), SEGMENTS[0]!)).toBe('exists')
    expect(await readStoredHistory(storage, 'main', 2)).toEqual({
      ancestors: [{ timeline: 1, switchedAt: '5/FFE00100' }],
    })
  })

  test('has nothing to do a second time, and gives new objects new headers later', async () => {
    const storage = await copy()
    await rotate(storage)
    const whole = await sums(storage)
    expect(await rotate(storage)).toMatchObject({
      rewrapped: 0,
      current: OBJECTS,
      headerBytes: 0,
      records: 0,
    })
    expect(await sums(storage)).toEqual(whole)
    await storage.remove(segmentKey(SEGMENTS[1]!))
    await archive(scratch, opened(storage, [before], []), SEGMENTS[1]!)
    expect(await rotate(storage)).toMatchObject({ rewrapped: 1, current: OBJECTS - 1, records: 0 })
    expect(await readable(opened(storage, [after], [after]))).toHaveLength(OBJECTS)
  })

  test('takes objects for current whatever the order of the recipients, and drops the key of the run', async () => {
    const storage = await copy()
    const both = (...recipients: KeyPair[]) =>
      rotateKeys(REQUEST, opened(storage, recipients, [before]), context())
    expect(await both(before)).toMatchObject({ rewrapped: 2, current: OBJECTS - 2, records: 1 })
    expect(await both(before, after)).toMatchObject({ rewrapped: OBJECTS, current: 0, records: 1 })
    expect(await both(after, before)).toMatchObject({ rewrapped: 0, current: OBJECTS, records: 0 })
    for (const key of await sealedKeys(storage))
      expect(readSealHeader((await readObject(storage, key))!)?.recipients, key).toBe(2)
  })

  test('as a rehearsal tells the same, and writes nothing', async () => {
    const storage = await copy()
    const whole = await sums(storage, { except: /^$/ })
    const result = await rotate(storage, { dryRun: true })
    expect(await sums(storage, { except: /^$/ })).toEqual(whole)
    expect(await rotate(storage)).toEqual(result)
  })

  test('leaves a segment alone that is being received, and what is not encrypted', async () => {
    const storage = await copy()
    await storage.remove(segmentKey(SEGMENTS[0]!))
    await archive(scratch, plainRepository('local', storage), SEGMENTS[0]!)
    const plainId = '20261119T231500Z-full'
    await storeSealedBackup(plainRepository('local', storage), plainId)
    const key = receivingKey('main', SEGMENTS[1]!, 'sealed')
    const receiving = await readObject(storage, key)
    const record = await readObject(storage, backupRecordKey('main', plainId))
    expect(await rotate(storage)).toMatchObject({
      rewrapped: OBJECTS - 1,
      plain: 4,
      receiving: 1,
      records: 1,
    })
    expect(await readObject(storage, key)).toEqual(receiving)
    expect(await readObject(storage, backupRecordKey('main', plainId))).toEqual(record)
  })

  test('tells how far it is', async () => {
    const events = new Events()
    const seen: number[] = []
    events.on('progress', ({ items }) => seen.push(items))
    await rotateKeys(REQUEST, rotating(await copy()), context(undefined, events))
    expect(seen).toEqual(Array.from({ length: OBJECTS }, (_, index) => index + 1))
  })

  test.runIf(AGE_PROGRAMS.length > 0)(
    'leaves objects that the age command opens with the new key',
    async () => {
      const storage = await copy()
      await rotate(storage)
      const object = (await readObject(storage, `${FOLDER}base.0001.tar.zst.age`))!
      const [oldFile, newFile] = [join(scratch.path, 'old.txt'), join(scratch.path, 'new.txt')]
      await writeFile(oldFile, `${before.identity}\n`)
      await writeFile(newFile, `${after.identity}\n`)
      expect(ageDecrypt(newFile, object)).toHaveLength(200_000)
      expect(() => ageDecrypt(oldFile, object)).toThrow()
    },
  )
})

/** Fails from some write on, as the disk of a process that was killed: before that write, or after it. */
class DyingStorage extends LocalStorage {
  #left: number
  readonly #isDone: boolean
  constructor(path: string, writes: number, isDone: boolean) {
    super(path)
    this.#left = writes
    this.#isDone = isDone
  }

  override async put(key: string, source: Source, options?: PutOptions): Promise<'stored' | 'exists'> {
    const isLast = --this.#left === 0
    if (this.#left < 0 || (isLast && !this.#isDone)) throw new Error('killed')
    const answer = await super.put(key, source, options)
    if (isLast) throw new Error('killed')
    return answer
  }
}

describe('a rotation that is killed', () => {
  // The lock, the objects, RESTORE.txt, backup.json and the catalog.
  const WRITES = 1 + OBJECTS + 2 + 1

  test.each([
    ['before', false, 1],
    // A lock that is stored is that of a process which lives, here.
    ['after', true, 2],
  ])('%s any third of its writes leaves all readable, and is gone on with', async (_when, isDone, first) => {
    for (let writes = first; writes <= WRITES; writes += 3) {
      const storage = await copy()
      const dying = new DyingStorage(storage.location, writes, isDone)
      await expect(rotate(dying, { jobs: 1 }), `write ${writes}`).rejects.toThrow('killed')
      const either = opened(storage, [after], [before, after])
      expect(await readable(either), `write ${writes}`).toEqual(await sealedKeys(storage))
      const record = (await readBackupRecord(storage, 'main', ID))!
      for (const object of record.objects.filter(({ kind }) => kind !== 'text')) {
        expect(isAsRecorded(object, await factsOf(storage, FOLDER + object.name)), object.name).toBe(true)
      }
      const result = await rotate(storage)
      expect(result.rewrapped + result.current).toBe(OBJECTS)
      if (writes > 4) expect(result.current).toBeGreaterThan(0)
      await expectRotated(storage)
    }
    await rotate(new DyingStorage((await copy()).location, WRITES + 1, isDone), { jobs: 1 })
  })

  test('by a signal ends in its own words, and is gone on with', async () => {
    const storage = await copy()
    const stop = new AbortController()
    const events = new Events()
    events.on('progress', ({ items }) => {
      if (items === 3) stop.abort(new PgrecallError('interrupted', 'stopped'))
    })
    await expect(
      rotateKeys({ ...REQUEST, jobs: 1 }, rotating(storage), context(stop.signal, events)),
    ).rejects.toMatchObject({ kind: 'interrupted' })
    // These were all objects of the backup; whoever lost the lock must not write its record either.
    expect((await readBackupRecord(storage, 'main', ID))?.recipients).toEqual([before.recipient])
    expect(await rotate(storage)).toMatchObject({ rewrapped: OBJECTS - 3, current: 3 })
    await expectRotated(storage)
  })
})

describe('what no key opens', () => {
  test('is named and stays as it is, and the rest goes on; with the key it is done', async () => {
    const storage = await copy()
    const stranger = await newIdentity()
    await storage.remove(segmentKey(SEGMENTS[1]!))
    await archive(scratch, opened(storage, [stranger], []), SEGMENTS[1]!)
    const shard = `${FOLDER}base.0001.tar.zst.age`
    await rotateOne(storage, shard, stranger)
    const foreign = [shard, segmentKey(SEGMENTS[1]!)]
    const untouched = await Promise.all(foreign.map((key) => readObject(storage, key)))
    const result = await rotate(storage)
    expect(result).toMatchObject({ rewrapped: OBJECTS - 2, current: 0, records: 1 })
    expect(result.failures).toEqual(
      foreign.map((key) => ({
        key,
        kind: 'key',
        reason: 'an object is encrypted to one public key, and no secret key of this host fits',
      })),
    )
    expect(await Promise.all(foreign.map((key) => readObject(storage, key)))).toEqual(untouched)
    // It is still for the earlier recipients too, and says so.
    expect((await readBackupRecord(storage, 'main', ID))?.recipients).toEqual([before.recipient])
    expect(await rotate(storage)).toMatchObject({ rewrapped: 0, current: OBJECTS - 2, records: 0 })
    const withAll = opened(storage, [after], [after, stranger])
    expect(await rotateKeys(REQUEST, withAll, context())).toMatchObject({ rewrapped: 2, failures: [] })
    expect((await readBackupRecord(storage, 'main', ID))?.recipients).toEqual([after.recipient])
  })

  /** Gives an object to somebody else, with the payload that it has. */
  async function rotateOne(storage: LocalStorage, key: string, to: KeyPair): Promise<void> {
    const object = (await readObject(storage, key))!
    const header = object.subarray(0, readSealHeader(object)!.headerBytes)
    const { keys } = opened(storage, [to], [before])
    await storage.replaceStart(key, header.length, await keys.opener.rewrap(header, keys.sealer!))
  }

  test.each([
    ['an object', 'base.0001.tar.zst.age', 'it does not begin with a header of age'],
    ['a record', 'backup.json', 'cannot be read'],
  ])('nor any program: %s that is damaged is named, and the rest goes on', async (_what, name, reason) => {
    const storage = await copy()
    await storage.put(FOLDER + name, Buffer.from('damaged'))
    const result = await rotate(storage)
    expect(result.failures).toEqual([
      { key: FOLDER + name, kind: 'damaged', reason: expect.stringContaining(reason) },
    ])
    expect(result.rewrapped).toBe(name === 'backup.json' ? OBJECTS : OBJECTS - 1)
    expect((await readObject(storage, FOLDER + name))?.toString()).toBe('damaged')
  })
})

describe('nothing is changed', () => {
  test.each([
    ['without a secret key', 'key', () => [after], () => []],
    ['where no key at hand reads what is written', 'refused', () => [after], () => [before]],
    ['where nothing is encrypted to', 'config', () => [], () => [before]],
  ] as const)('%s', async (_when, kind, recipients, identities) => {
    const storage = await copy()
    const whole = await sums(storage, { except: /^$/ })
    const keys = recipients()
    const repository =
      keys.length > 0 ? opened(storage, [...keys], [...identities()]) : plainRepository('local', storage)
    await expect(rotateKeys(REQUEST, repository, context())).rejects.toMatchObject({ kind })
    expect(await sums(storage, { except: /^$/ })).toEqual(whole)
  })

  test('while somebody else holds the lock', async () => {
    const storage = await copy()
    await using _lock = await acquireLock(storage, 'main', { purpose: 'backup', now: () => new Date() })
    await expect(rotate(storage)).rejects.toMatchObject({ kind: 'busy' })
    expect(await rotate(storage, { dryRun: true })).toMatchObject({ rewrapped: OBJECTS })
  })

  test('where the repository is away', async () => {
    const storage = await copy()
    await rename(storage.location, `${storage.location}.away`)
    await expect(rotate(storage)).rejects.toMatchObject({ kind: 'repository' })
    expect(existsSync(storage.location)).toBe(false)
  })
})

const noGateway = gatewayMissing()
describe.skipIf(noGateway !== undefined)('in a bucket that locks', () => {
  test('what is replaced stays locked as long as before, and old versions are warned of', async () => {
    const gateway = await sharedGateway()
    const bucket = await gateway.bucket({ objectLock: true })
    const objectLock = { mode: 'GOVERNANCE', days: 1 } as const
    const storage = new S3Storage(gateway.address(bucket, { objectLock }))
    await markRepository(storage)
    await storeSealedBackup(opened(storage, [before], []))
    const until = new Date(Math.floor(Date.now() / 1000) * 1000 + 10 * 86_400_000)
    const keys = ['RESTORE.txt', 'backup.json', 'backup_manifest.zst.age'].map((name) => FOLDER + name)
    for (const key of keys) await storage.lockUntil(key, until)
    const events = new Events()
    const warnings: string[] = []
    events.on('warning', ({ text }) => warnings.push(text))
    const result = await rotateKeys(REQUEST, rotating(storage), context(undefined, events))
    expect(result).toMatchObject({ rewrapped: 3, records: 1 })
    for (const key of keys) expect((await storage.stat(key))?.lockedUntil, key).toEqual(until)
    expect(warnings).toEqual([expect.stringContaining('until its lock ends')])
    expect((await readBackupRecord(storage, 'main', ID))?.recipients).toEqual([after.recipient])
  })
})

test('what an interrupted backup has left is rewrapped too', async () => {
  const storage = await copy()
  await rotate(storage)
  const debris = (await readable(opened(storage, [after], [after]))).filter((key) => key.includes(DEBRIS))
  expect(debris).toHaveLength(3)
})

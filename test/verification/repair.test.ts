import { readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import { backupPrefix, walKey } from '../../src/catalog/layout.ts'
import { acquireLock } from '../../src/catalog/lock.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { nothingVerified, readVerifications, rememberRestore } from '../../src/catalog/verification-file.ts'
import { PgrecallError } from '../../src/errors.ts'
import { Events } from '../../src/events.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import { readObject } from '../../src/storage/storage.ts'
import { type VerifyRequest, verifyRepository } from '../../src/verification/verify-repository.ts'
import { pushWalFile } from '../../src/wal/push.ts'
import { readArchivedFile } from '../../src/wal/read.ts'
import { archiveSample, copyAll, localStorage, sampleSegment, storeSample } from '../copy/sample.ts'
import { gatewayMissing, sharedGateway } from '../lab/gateway.ts'
import { encryptedRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'

const ID = '20260101T000000Z-full'
const SEGMENTS = 4
const SHARD = `${backupPrefix('main', ID)}base.0001.tar.zst`

let scratch: Scratch
let here: Repository
beforeEach(async () => {
  scratch = await Scratch.create('repair')
  here = plainRepository('here', await localStorage(scratch, 'here'))
  await archiveSample(scratch, here, SEGMENTS)
  await storeSample(here, ID, 0)
})
afterEach(() => scratch[Symbol.asyncDispose]())

interface Circumstances {
  now?: () => Date
  signal?: AbortSignal
}

function verify(
  repository: Repository,
  request: Partial<VerifyRequest> = {},
  { now = () => new Date(), signal = new AbortController().signal }: Circumstances = {},
) {
  const context = { env: process.env, events: new Events(), signal, now }
  return verifyRepository(repository, { cluster: 'main', ids: [], jobs: 1, ...request }, context)
}

test.skipIf(gatewayMissing())('what is damaged in a bucket is healed from a folder', async () => {
  const gateway = await sharedGateway()
  const { identity, recipient } = await newIdentity()
  const bucket = new S3Storage(gateway.address(await gateway.bucket()))
  const there = encryptedRepository('there', bucket, [recipient], [identity])
  await copyAll(here, there)
  const [shard, segment, gone] = [
    `${SHARD}.age`,
    walKey('main', sampleSegment(1), 'sealed'),
    walKey('main', sampleSegment(2), 'sealed'),
  ]
  const whole = (await readObject(bucket, shard))!
  whole[whole.length - 100]! ^= 1
  await bucket.put(shard, whole)
  await bucket.put(segment, (await readObject(bucket, segment))!.subarray(0, 300))
  await bucket.remove(gone)
  const { damaged } = await verify(there, { repair: true, others: [here] })
  expect(damaged.map(({ key, mend }) => [key, mend.outcome, mend.repository]).toSorted()).toEqual(
    [shard, segment, gone].map((key) => [key, 'healed', 'here']).toSorted(),
  )
  expect((await verify(there)).damaged).toEqual([])
})

describe('a look at everything', () => {
  test('goes on where it was stopped', async () => {
    const stop = new AbortController()
    let calls = 0
    const now = () => {
      // Between two of its objects.
      if (++calls === 12) stop.abort(new Error('stopped'))
      return new Date(Date.UTC(2026, 0, 2))
    }
    await expect(verify(here, {}, { now, signal: stop.signal })).rejects.toThrow()
    const { unfinished } = (await readVerifications(here.storage, 'main'))!
    expect(unfinished).toEqual({ since: '2026-01-02T00:00:00.000Z', decode: false })
    const later = () => new Date(Date.UTC(2026, 0, 2, 5))
    const second = await verify(here, {}, { now: later })
    expect(second).toMatchObject({ resumedFrom: unfinished!.since, neverBytes: 0, damaged: [] })
    expect(await readVerifications(here.storage, 'main')).not.toHaveProperty('unfinished')
    const third = await verify(here, {}, { now: later })
    expect(third).not.toHaveProperty('resumedFrom')
    expect(third.readBytes).toBeGreaterThan(second.readBytes)
  })

  test('tells of what cannot be remembered, and looks all the same', async () => {
    const refusing = new Proxy(here.storage, {
      get(storage, name) {
        const value = Reflect.get(storage, name)
        if (name !== 'put') return typeof value === 'function' ? value.bind(storage) : value
        return () => Promise.reject(new PgrecallError('repository', 'it is read-only'))
      },
    })
    const warnings: string[] = []
    const events = new Events().on('warning', ({ text }) => warnings.push(text))
    const context = { env: process.env, events, signal: new AbortController().signal, now: () => new Date() }
    const request = { cluster: 'main', ids: [], jobs: 1 }
    expect(await verifyRepository({ ...here, storage: refusing }, request, context)).toMatchObject({
      damaged: [],
    })
    expect(warnings).toEqual([expect.stringContaining('cannot be remembered')])
  })

  test('finds that the newest segment is gone, since it was there', async () => {
    await verify(here)
    const newest = walKey('main', sampleSegment(SEGMENTS - 1))
    await here.storage.remove(newest)
    const { damaged } = await verify(here)
    expect(damaged).toMatchObject([{ key: newest, reason: 'it is missing from the archive' }])
    // And the next one does, too.
    expect((await verify(here)).damaged).toHaveLength(1)
  })
})

test('a copy that is damaged too heals nothing', async () => {
  const there = plainRepository('there', await localStorage(scratch, 'there'))
  await copyAll(here, there)
  const paths = ['here', 'there'].map((name) => join(scratch.path, name, SHARD))
  const whole = await readFile(paths[1]!)
  await truncate(paths[0]!, 1000)
  whole[whole.length - 100]! ^= 1
  await writeFile(paths[1]!, whole)
  const { damaged } = await verify(here, { repair: true, others: [there] })
  expect(damaged).toMatchObject([{ key: SHARD, mend: { outcome: 'lost' } }])
  expect((await readFile(paths[0]!)).length).toBe(1000)
})

test('what cannot be healed while a backup runs is told and remembered', async () => {
  const there = plainRepository('there', await localStorage(scratch, 'there'))
  await copyAll(here, there)
  await truncate(join(scratch.path, 'here', SHARD), 1000)
  const warnings: string[] = []
  const events = new Events().on('warning', ({ text }) => warnings.push(text))
  const context = { env: process.env, events, signal: new AbortController().signal, now: () => new Date() }
  const request = { cluster: 'main', ids: [], jobs: 1, repair: true, others: [there] }
  await using _backup = await acquireLock(here.storage, 'main', { purpose: 'backup', now: context.now })
  const { damaged } = await verifyRepository(here, request, context)
  expect(damaged).toMatchObject([{ key: SHARD, mend: { outcome: 'healable' } }])
  expect(warnings).toEqual([expect.stringContaining('nothing more is healed now')])
  expect(await readVerifications(here.storage, 'main')).toMatchObject({ damaged: [{ key: SHARD }] })
})

/** What a server archived that went another way from a segment on. */
async function parted(there: Repository, ...numbers: number[]): Promise<void> {
  const folder = await scratch.folder('of the clone')
  for (const name of numbers.map(sampleSegment)) {
    const bytes = (await readArchivedFile(here, 'main', name))!
    bytes[bytes.length - 1]! ^= 1
    await there.storage.remove(walKey('main', name))
    await writeFile(join(folder, name), bytes)
    await pushWalFile({ path: join(folder, name), cluster: 'main', repositories: [there], level: 1 })
  }
}

describe('WAL of a server that went another way heals nothing, whatever it is called:', () => {
  let there: Repository
  beforeEach(async () => {
    there = plainRepository('there', await localStorage(scratch, 'there'))
    await copyAll(here, there)
  })
  const key = (number: number) => walKey('main', sampleSegment(number))
  const refused = { outcome: 'lost', text: expect.stringContaining('have different bytes') }
  const repairHere = async () => (await verify(here, { repair: true, others: [there] })).damaged

  test('it parted before', async () => {
    await parted(there, 0, 1, 2)
    await truncate(join(scratch.path, 'here', key(1)), 300)
    expect(await repairHere()).toMatchObject([{ key: key(1), mend: refused }])
  })

  test('it parted at the damaged segment', async () => {
    await parted(there, 1, 2, 3)
    await truncate(join(scratch.path, 'here', key(1)), 300)
    expect(await repairHere()).toMatchObject([{ key: key(1), mend: refused }])
    expect((await readObject(here.storage, key(1)))!.length).toBe(300)
  })

  test('it parted in a hole, of which nothing is filled then', async () => {
    await parted(there, 2, 3)
    for (const number of [1, 2]) await here.storage.remove(key(number))
    expect(await repairHere()).toMatchObject([{ key: key(1), mend: refused }])
    expect(await here.storage.stat(key(1))).toBeUndefined()
  })

  test('nothing near it can be compared', async () => {
    for (const number of [0, 2, 3]) await there.storage.remove(key(number))
    await truncate(join(scratch.path, 'here', key(1)), 300)
    expect(await repairHere()).toMatchObject([
      { key: key(1), mend: { outcome: 'lost', text: expect.stringContaining('it was not taken') } },
    ])
  })

  test('where nothing is stored behind, that is said of what is healed', async () => {
    await truncate(join(scratch.path, 'here', key(3)), 300)
    expect(await repairHere()).toMatchObject([
      { mend: { outcome: 'healed', text: expect.stringContaining('nothing behind it could be compared') } },
    ])
  })
})

test('of restores the newest and the newest that succeeded are remembered', async () => {
  const { storage } = here
  const at = (hour: number) => new Date(Date.UTC(2026, 0, 1, hour)).toISOString()
  await rememberRestore(storage, 'main', { backup: ID, finishedAt: at(1), outcome: 'proven' })
  await rememberRestore(storage, 'main', { backup: ID, finishedAt: at(2), outcome: 'failed' })
  expect(await readVerifications(storage, 'main')).toEqual({
    ...nothingVerified('main', at(1)),
    lastRestore: { backup: ID, finishedAt: at(2), outcome: 'failed' },
    lastProvenRestore: { backup: ID, finishedAt: at(1), outcome: 'proven' },
  })
})

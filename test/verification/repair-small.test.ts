import { truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import { readIdentity } from '../../src/catalog/identity.ts'
import {
  backupPrefix,
  backupRecordKey,
  droppedKey,
  identityKey,
  REPOSITORY_MARKER,
  walKey,
} from '../../src/catalog/layout.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { PgrecallError } from '../../src/errors.ts'
import { Events } from '../../src/events.ts'
import { readObject } from '../../src/storage/storage.ts'
import { verifyRepository } from '../../src/verification/verify-repository.ts'
import { pushWalFile } from '../../src/wal/push.ts'
import { archiveSample, copyAll, localStorage, sampleSegment, storeSample } from '../copy/sample.ts'
import { encryptedRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { SEGMENT } from '../postgres/wal-writer.ts'

const ID = '20260101T000000Z-full'
const SHARD = `${backupPrefix('main', ID)}base.0001.tar.zst`

let scratch: Scratch
let here: Repository
let there: Repository
beforeEach(async () => {
  scratch = await Scratch.create('repair-small')
  here = plainRepository('here', await localStorage(scratch, 'here'))
  there = plainRepository('there', await localStorage(scratch, 'there'))
  await archiveSample(scratch, here, 3)
  await storeSample(here, ID, 0)
})
afterEach(() => scratch[Symbol.asyncDispose]())

async function repaired(repository: Repository): Promise<[string, string][]> {
  const context = {
    ...{ env: process.env, events: new Events(), now: () => new Date() },
    signal: new AbortController().signal,
  }
  const request = { cluster: 'main', ids: [], jobs: 1, repair: true, others: [there] }
  const { damaged } = await verifyRepository(repository, request, context)
  return damaged.map(({ key, mend: { outcome, text } }): [string, string] => [key, `${outcome}: ${text}`])
}

const put = (key: string, facts: unknown) => here.storage.put(key, Buffer.from(JSON.stringify(facts)))
const HEALED_FROM_THERE = 'healed: healed, from repository "there"'
const MADE_ANEW = 'healed: healed, made anew'

test('what says whose the cluster is comes back from what is stored, and hinders the healing of nothing else', async () => {
  await copyAll(here, there)
  await put(identityKey('main'), { format: 1, systemIdentifier: '43', walSegmentBytes: SEGMENT })
  await put(REPOSITORY_MARKER, {})
  await truncate(join(here.storage.location, SHARD), 100)
  expect(await repaired(here)).toEqual([
    [REPOSITORY_MARKER, MADE_ANEW],
    [SHARD, HEALED_FROM_THERE],
    [identityKey('main'), MADE_ANEW],
  ])
  expect(await readIdentity(here.storage, 'main')).toMatchObject({ systemIdentifier: '42' })
  expect(await repaired(here)).toEqual([])
})

test('it is taken from another repository only where nothing that is stored here speaks against it', async () => {
  const strange = { format: 1, systemIdentifier: '7', walSegmentBytes: SEGMENT }
  await there.storage.put(identityKey('main'), Buffer.from(JSON.stringify(strange)))
  await put(identityKey('main'), {})
  await here.storage.remove(backupRecordKey('main', ID))
  // A segment says it, too.
  expect(await repaired(here)).toEqual([[identityKey('main'), MADE_ANEW]])
  expect(await readIdentity(here.storage, 'main')).toMatchObject({ systemIdentifier: '42' })
  await storeSample(here, ID, 0)
  await storeSample(here, '20260102T000000Z-full', 1, { walSegmentBytes: 2 * SEGMENT })
  await put(identityKey('main'), {})
  expect(await repaired(here)).toEqual([
    [identityKey('main'), expect.stringMatching(/^lost: .*the cluster is 7, and what is stored is of 42$/)],
  ])
})

test('a history that is that of another timeline, and a note that is none, are healed by their content', async () => {
  const folder = await scratch.folder('histories')
  const histories = { '00000002.history': '1\t0/1800000\tone\n', '00000003.history': '2\t0/1900000\ttwo\n' }
  for (const [name, text] of Object.entries(histories)) {
    await writeFile(join(folder, name), text)
    await pushWalFile({ path: join(folder, name), cluster: 'main', repositories: [here], level: 1 })
  }
  await copyAll(here, there)
  const [second, third] = Object.keys(histories).map((name) => walKey('main', name))
  const note = droppedKey('main', sampleSegment(2))
  await there.storage.put(note, Buffer.from(JSON.stringify({ segment: sampleSegment(2) })))
  const whole = await readObject(here.storage, second!)
  await here.storage.put(second!, (await readObject(here.storage, third!))!)
  await put(note, {})
  expect((await repaired(here)).toSorted()).toEqual(
    [second, note].map((key) => [key, HEALED_FROM_THERE]).toSorted(),
  )
  expect(await readObject(here.storage, second!)).toEqual(whole)
  expect(await repaired(here)).toEqual([])
})

test('what is healed in another form is healed, also where the damaged one may not be removed', async () => {
  await copyAll(here, there)
  const { identity, recipient } = await newIdentity()
  const key = walKey('main', sampleSegment(1))
  await truncate(join(here.storage.location, key), 100)
  const storage = new Proxy(here.storage, {
    get(target, name) {
      const value = Reflect.get(target, name)
      if (name !== 'remove') return typeof value === 'function' ? value.bind(target) : value
      return (removed: string) =>
        removed === key ? Promise.reject(new PgrecallError('refused', 'locked')) : target.remove(removed)
    },
  })
  expect(await repaired(encryptedRepository('here', storage, [recipient], [identity]))).toEqual([
    [key, HEALED_FROM_THERE],
  ])
})

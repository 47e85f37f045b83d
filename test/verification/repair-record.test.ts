import { readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import { updateCatalog } from '../../src/catalog/catalog.ts'
import { backupPrefix, backupRecordKey } from '../../src/catalog/layout.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { Events } from '../../src/events.ts'
import { verifyRepository } from '../../src/verification/verify-repository.ts'
import { archiveSample, copyAll, localStorage, storeSample } from '../copy/sample.ts'
import { encryptedRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'

const ID = '20260101T000000Z-full'
const FOLDER = backupPrefix('main', ID)
const RECORD = backupRecordKey('main', ID)

let scratch: Scratch
let here: Repository
let there: Repository
beforeEach(async () => {
  scratch = await Scratch.create('repair-record')
  here = plainRepository('here', await localStorage(scratch, 'here'))
  there = plainRepository('there', await localStorage(scratch, 'there'))
  await archiveSample(scratch, here, 2)
  await storeSample(here, ID, 0)
})
afterEach(() => scratch[Symbol.asyncDispose]())

function verify(repository: Repository, others: readonly Repository[], repair = true) {
  const context = {
    ...{ env: process.env, events: new Events(), now: () => new Date() },
    signal: new AbortController().signal,
  }
  return verifyRepository(repository, { cluster: 'main', ids: [], jobs: 1, repair, others }, context)
}

const fileIn = ({ storage }: Repository, key: string) => join(storage.location, key)

async function flip(path: string): Promise<void> {
  const bytes = await readFile(path)
  bytes[Math.floor(bytes.length / 2)]! ^= 1
  await writeFile(path, bytes)
}

/** Every object of the backup but its record. */
async function objectsIn(repository: Repository): Promise<Map<string, string>> {
  const folder = fileIn(repository, FOLDER)
  const names = (await readdir(folder)).filter((name) => name !== 'backup.json').toSorted()
  return new Map(
    await Promise.all(
      names.map(async (name) => [name, await readFile(join(folder, name), 'base64')] as const),
    ),
  )
}

test('a record is healed where the objects are sound here, though the other repository has lost one of them', async () => {
  await copyAll(here, there)
  const before = await objectsIn(here)
  await flip(fileIn(here, RECORD))
  await flip(fileIn(there, `${FOLDER}base.0002.tar.zst`))
  expect((await verify(here, [there])).damaged).toMatchObject([{ key: RECORD, mend: { outcome: 'healed' } }])
  expect(await objectsIn(here)).toEqual(before)
  expect((await verify(there, [here])).damaged).toMatchObject([{ mend: { outcome: 'healed' } }])
  for (const repository of [here, there]) expect((await verify(repository, [], false)).damaged).toEqual([])
})

test('with it comes what is not as it tells, and nothing else', async () => {
  await copyAll(here, there)
  // As after each backup: it tells that the record was there.
  await updateCatalog(here.storage, 'main', new Date())
  const before = await objectsIn(here)
  await rm(fileIn(here, RECORD))
  await truncate(fileIn(here, `${FOLDER}base.0001.tar.zst`), 100)
  await flip(fileIn(there, `${FOLDER}base.0002.tar.zst`))
  expect((await verify(here, [there])).damaged).toMatchObject([{ key: RECORD, mend: { outcome: 'healed' } }])
  expect(await objectsIn(here)).toEqual(before)
  expect((await verify(here, [], false)).damaged).toEqual([])
})

test('nothing that is here goes where it cannot be healed', async () => {
  const { identity, recipient } = await newIdentity()
  const sealed = encryptedRepository('sealed', there.storage, [recipient], [identity])
  await copyAll(here, sealed)
  await flip(fileIn(here, RECORD))
  const [before, record] = [await objectsIn(here), await readFile(fileIn(here, RECORD))]
  await flip(fileIn(sealed, `${FOLDER}base.0002.tar.zst.age`))
  const { damaged } = await verify({ ...here, keys: { ...sealed.keys, sealer: undefined } }, [sealed])
  expect(damaged).toMatchObject([{ key: RECORD, mend: { outcome: 'lost' } }])
  const after = await objectsIn(here)
  // What describes a shard may have been written anew.
  for (const [name, content] of before) if (name.startsWith('base.')) expect(after.get(name)).toBe(content)
  expect([...after.keys()]).toEqual([...before.keys()])
  expect(await readFile(fileIn(here, RECORD))).toEqual(record)
})

test('what gets another form takes the place of what was here when its record is written', async () => {
  const { identity, recipient } = await newIdentity()
  const sealed = encryptedRepository('sealed', there.storage, [recipient], [identity])
  await copyAll(here, sealed)
  await flip(fileIn(sealed, RECORD))
  const own = { ...sealed, keys: { ...sealed.keys, sealer: undefined } }
  expect((await verify(own, [here])).damaged).toMatchObject([{ mend: { outcome: 'healed' } }])
  const names = [...(await objectsIn(sealed)).keys()]
  expect(names.filter((name) => name.endsWith('.age'))).toEqual([])
  expect((await verify(own, [], false)).damaged).toEqual([])
})

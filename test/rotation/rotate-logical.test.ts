import { afterAll, beforeAll, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import { backupPrefix } from '../../src/catalog/layout.ts'
import { readLogicalRecord } from '../../src/catalog/logical-record.ts'
import { isAsRecorded } from '../../src/catalog/object-sum.ts'
import { readWholeContent } from '../../src/catalog/sealed-object.ts'
import { Events } from '../../src/events.ts'
import { rotateKeys } from '../../src/rotation/rotate-keys.ts'
import type { LocalStorage } from '../../src/storage/local.ts'
import { readObject } from '../../src/storage/storage.ts'
import { storeDumps } from '../catalog/stored-dumps.ts'
import { encryptedRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { emptyRepository, factsOf, type KeyPair, readable } from './encrypted.ts'

const ID = '20261120T120000Z-logical'
const FOLDER = backupPrefix('main', ID)

let scratch: Scratch
let storage: LocalStorage
let before: KeyPair
let after: KeyPair
beforeAll(async () => {
  scratch = await Scratch.create('rotate-logical')
  ;[before, after] = [await newIdentity(), await newIdentity()]
  storage = await emptyRepository(scratch, 'repository')
  await storeDumps(encryptedRepository('local', storage, [before.recipient]), ID)
})
afterAll(() => scratch[Symbol.asyncDispose]())

test('a logical backup gets new headers, and its record fits what is stored', async () => {
  const old = encryptedRepository('local', storage, [before.recipient], [before.identity])
  const content = await readWholeContent(old, `${FOLDER}shop.dump.age`)
  const both = encryptedRepository('local', storage, [after.recipient], [before.identity, after.identity])
  const context = { events: new Events(), signal: new AbortController().signal, now: () => new Date() }
  const rotate = () => rotateKeys({ cluster: 'main', jobs: 2, dryRun: false }, both, context)

  expect(await rotate()).toMatchObject({ rewrapped: 4, records: 1, plain: 0, failures: [] })

  const record = (await readLogicalRecord(storage, 'main', ID))!
  expect(record.recipients).toEqual([after.recipient])
  for (const object of record.objects)
    expect(isAsRecorded(object, await factsOf(storage, FOLDER + object.name)), object.name).toBe(true)
  const alone = encryptedRepository('local', storage, [after.recipient], [after.identity])
  expect(await readable(alone)).toHaveLength(4)
  expect(await readable(old)).toEqual([])
  expect(await readWholeContent(alone, `${FOLDER}shop.dump.age`)).toEqual(content)
  const text = (await readObject(storage, `${FOLDER}RESTORE.txt`))!.toString()
  expect(text).toContain(after.recipient)
  expect(text).toContain('logical backup')
  expect(text).not.toContain(before.recipient)
  expect(await rotate()).toMatchObject({ rewrapped: 0, current: 4, records: 0 })
})

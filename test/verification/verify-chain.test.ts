import { rm, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { backupPrefix, backupRecordKey } from '../../src/catalog/layout.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { Events } from '../../src/events.ts'
import { verifyRepository } from '../../src/verification/verify-repository.ts'
import { archiveSample, buildingOn, localStorage, storeSample } from '../copy/sample.ts'
import { plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'

const FULL = '20260101T000000Z-full'
const FIRST = '20260102T000000Z-incr'
const BESIDE = '20260103T000000Z-diff'
const LAST = '20260104T000000Z-incr'

let scratch: Scratch
let repository: Repository
beforeEach(async () => {
  scratch = await Scratch.create()
  repository = plainRepository('here', await localStorage(scratch, 'here'))
  await archiveSample(scratch, repository, 5)
  const full = await storeSample(repository, FULL, 1)
  const first = await storeSample(repository, FIRST, 2, buildingOn(full))
  await storeSample(repository, BESIDE, 3, { ...buildingOn(full), type: 'diff' })
  await storeSample(repository, LAST, 4, buildingOn(first))
})
afterEach(() => scratch[Symbol.asyncDispose]())

const fileOf = (id: string, name: string) => join(scratch.path, 'here', backupPrefix('main', id), name)

/** @returns the faults of each backup that was looked at */
async function verify(...ids: string[]): Promise<[string, { key: string; reason: string }[]][]> {
  const context = {
    env: process.env,
    events: new Events(),
    signal: new AbortController().signal,
    now: () => new Date(),
  }
  const { backups } = await verifyRepository(repository, { cluster: 'main', ids, jobs: 2 }, context)
  return backups.map(({ id, faults }) => [id, faults])
}

test('what an incremental backup builds upon is read with it, each once', async () => {
  const sound = (...ids: string[]) => ids.map((id) => [id, []])
  expect(await verify(LAST)).toEqual(sound(FULL, FIRST, LAST))
  expect(await verify('latest', BESIDE, LAST)).toEqual(sound(FULL, FIRST, BESIDE, LAST))
  expect(await verify()).toEqual(sound(FULL, FIRST, BESIDE, LAST))
  expect(await verify(FULL)).toEqual(sound(FULL))
})

test('a fault of a link is found', async () => {
  await truncate(fileOf(FULL, 'base.0001.tar.zst'), 1000)
  expect((await verify(LAST)).filter(([, faults]) => faults.length > 0)).toEqual([
    [FULL, [expect.objectContaining({ key: `${backupPrefix('main', FULL)}base.0001.tar.zst` })]],
  ])
})

test('a link that is missing, or another backup, is a fault of all that build upon it', async () => {
  const broken = (id: string, missing: string) => ({
    key: backupRecordKey('main', id),
    reason: `it builds upon ${missing}, which is missing, or not the backup that it was then`,
  })
  await storeSample(repository, FIRST, 3)
  expect(await verify(LAST)).toEqual([[LAST, [broken(LAST, FIRST)]]])
  await rm(fileOf(FULL, 'backup.json'))
  expect(await verify()).toEqual([
    [FIRST, []],
    [BESIDE, [broken(BESIDE, FULL)]],
    [LAST, [broken(LAST, FIRST)]],
  ])
  const context = {
    env: process.env,
    events: new Events(),
    signal: new AbortController().signal,
    now: () => new Date(),
  }
  const { damaged } = await verifyRepository(
    repository,
    { cluster: 'main', ids: [LAST], jobs: 2, repair: true },
    context,
  )
  // What is in the place of a link is a backup, too, and stays.
  expect(damaged).toMatchObject([{ key: backupPrefix('main', LAST), mend: { outcome: 'lost' } }])
})

import { afterEach, beforeEach, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import { claimIdentity } from '../../src/catalog/identity.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { Events } from '../../src/events.ts'
import { verifyRepository } from '../../src/verification/verify-repository.ts'
import { SEGMENT } from '../catalog/stored.ts'
import { storeDumps } from '../catalog/stored-dumps.ts'
import { localStorage } from '../copy/sample.ts'
import { findPrograms } from '../lab/programs.ts'
import { encryptedRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'

const ID = '20261120T120000Z-logical'
/** Older than any pg_restore that this can run with. */
const OLD = { dumpVersion: 1 }

let scratch: Scratch
beforeEach(async () => {
  scratch = await Scratch.create('verify-dumps')
})
afterEach(() => scratch[Symbol.asyncDispose]())

async function verify(repository: Repository) {
  const context = {
    env: process.env,
    events: new Events(),
    signal: new AbortController().signal,
    now: () => new Date(),
  }
  const [found] = await verifyRepository(repository, { cluster: 'main', ids: [ID], jobs: 2 }, context)
  return found!
}

async function stored(repository: Repository, facts: Parameters<typeof storeDumps>[2]): Promise<void> {
  await claimIdentity(repository.storage, 'main', { systemIdentifier: '42', walSegmentBytes: SEGMENT })
  await storeDumps(repository, ID, facts)
}

test('without a pg_restore that is new enough only the sums are compared, and that is said', async () => {
  const repository = plainRepository('here', await localStorage(scratch, 'here'))
  await stored(repository, { dumpVersion: 999 })
  expect(await verify(repository)).toMatchObject({
    faults: [],
    objects: 5,
    unlisted: 'this host has no pg_restore of PostgreSQL 999 or later',
  })
})

test.skipIf(!findPrograms())('without a key too', async () => {
  const { recipient } = await newIdentity()
  const repository = encryptedRepository('here', await localStorage(scratch, 'here'), [recipient])
  await stored(repository, OLD)
  const { faults, unlisted } = await verify(repository)
  expect(faults).toEqual([])
  expect(unlisted).toContain('no secret key')
})

test.skipIf(!findPrograms())('what pg_restore cannot read is a fault of each archive', async () => {
  const repository = plainRepository('here', await localStorage(scratch, 'here'))
  await stored(repository, OLD)
  const { faults } = await verify(repository)
  expect(faults.map(({ key }) => key.split('/').at(-1))).toEqual(['crm.dump', 'shop.dump'])
  expect(faults[0]!.reason).toContain('pg_restore cannot read it')
})

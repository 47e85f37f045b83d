import { chmod } from 'node:fs/promises'
import { dirname } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import { claimIdentity } from '../../src/catalog/identity.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import { Events } from '../../src/events.ts'
import { verifyRepository } from '../../src/verification/verify-repository.ts'
import { record, SEGMENT, storeBackup } from '../catalog/stored.ts'
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

const contextOf = (env: Record<string, string | undefined> = process.env) => ({
  env,
  events: new Events(),
  signal: new AbortController().signal,
  now: () => new Date(),
})

async function verify(repository: Repository, env?: Record<string, string | undefined>) {
  const request = { cluster: 'main', ids: [ID], jobs: 2 }
  const { backups } = await verifyRepository(repository, request, contextOf(env))
  return backups[0]!
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

test('a pg_restore that is killed says nothing of the backup', async () => {
  const repository = plainRepository('here', await localStorage(scratch, 'here'))
  await stored(repository, OLD)
  const program = await scratch.file(
    'pg_restore',
    '#!/bin/sh\n[ "$1" = --version ] && echo "pg_restore (PostgreSQL) 1.0" || kill -9 $$\n',
  )
  await chmod(program, 0o755)
  const { faults, unlisted } = await verify(repository, { PATH: `${dirname(program)}:${process.env.PATH}` })
  expect(faults).toEqual([])
  expect(unlisted).toContain('it was ended by SIGKILL')
})

test('the latest is a physical backup where there is one', async () => {
  const repository = plainRepository('here', await localStorage(scratch, 'here'))
  const full = '20261119T120000Z-full'
  await stored(repository, OLD)
  const latest = async () => {
    const context = contextOf()
    const request = { cluster: 'main', ids: ['latest'], jobs: 2 }
    return (await verifyRepository(repository, request, context)).backups.map(({ id }) => id)
  }
  expect(await latest()).toEqual([ID])
  await storeBackup(repository.storage, record(full, { standalone: true }))
  expect(await latest()).toEqual([full])
})

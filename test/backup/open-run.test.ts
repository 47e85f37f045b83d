import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { Destinations } from '../../src/backup/destinations.ts'
import { type BackupBasis, findParent } from '../../src/backup/find-parent.ts'
import type { BackupMethod, BackupRequest } from '../../src/backup/method.ts'
import { openRun } from '../../src/backup/open-run.ts'
import { updateCatalog } from '../../src/catalog/catalog.ts'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { Events } from '../../src/events.ts'
import { lsn } from '../../src/postgres/lsn.ts'
import type { ClusterFacts } from '../../src/postgres/server.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { increment, keysOf, record, recordOf, SEGMENT, storeBackup } from '../catalog/stored.ts'
import { plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'

const IDENTITY = { systemIdentifier: '7400000000000000001', walSegmentBytes: SEGMENT }
const FULL = record('20261101T120000Z-full', { first: 10 })
const NEXT = recordOf(increment('20261102T120000Z-incr', FULL, { first: 12 }))
const ALONE = record('20261103T120000Z-full', { first: 14 })
const DEBRIS = 'main/backups/20261030T120000Z-full/base.0001.tar.zst'

let warnings: string[]
let storage: LocalStorage

beforeEach(async (context) => {
  const scratch = await Scratch.create()
  context.onTestFinished(() => scratch[Symbol.asyncDispose]())
  warnings = []
  storage = new LocalStorage(join(scratch.path, 'repository'))
  await claimIdentity(storage, 'main', IDENTITY)
  for (const backup of [FULL, NEXT, ALONE]) await storeBackup(storage, backup)
  await updateCatalog(storage, 'main', new Date())
})

const loseRecord = ({ id }: { id: string }) => rm(join(storage.location, `main/backups/${id}/backup.json`))

function contextOf() {
  return {
    events: new Events().on('warning', ({ text }) => warnings.push(text)),
    signal: new AbortController().signal,
    now: () => new Date(),
    makeIfNew: async () => {},
  }
}

const open = () => Destinations.open([plainRepository('local', storage)], 'main', IDENTITY, contextOf())

test('a backup that lost its record is neither removed as debris nor gone on with', async () => {
  await storage.put(DEBRIS, Buffer.from('x'))
  // Upon the first another one is built; of the second only the catalog tells.
  for (const backup of [FULL, ALONE]) await loseRecord(backup)
  await using destinations = await open()
  const request = { cluster: 'main', resume: true, codec: { method: 'zstd', level: 1 } } as BackupRequest
  const method = { name: 'files', resumes: true } as unknown as BackupMethod
  const basis: BackupBasis = { type: 'full', parent: undefined, warnings: [] }
  const run = await openRun(request, method, basis, destinations, contextOf())

  expect([FULL.id, ALONE.id]).not.toContain(run.id)
  expect(warnings).toEqual(
    [FULL, ALONE].map(({ id }) => expect.stringContaining(`repository "local": backup ${id} has lost its`)),
  )
  const shards = [FULL, NEXT, ALONE].map(({ id }) => `main/backups/${id}/base.0001.tar.zst`)
  expect((await keysOf(storage, 'main/backups/')).filter((key) => key.endsWith('.zst'))).toEqual(shards)
})

test('nothing is built upon a chain of which a record is gone, also where the catalog is believed', async () => {
  const newest = recordOf(increment('20261104T120000Z-incr', NEXT, { first: 16 }))
  await storeBackup(storage, newest)
  await using destinations = await open()
  // As of a long chain, of whose old links only a part is looked at.
  await loseRecord(FULL)
  const facts = {
    majorVersion: 17,
    systemIdentifier: IDENTITY.systemIdentifier,
    blockBytes: 8192,
    dataChecksums: true,
  } as ClusterFacts
  const method = {
    name: 'files',
    fullOnly: () => undefined,
    place: async () => ({ timeline: 1, lsn: lsn('0/32000000'), history: undefined }),
  } as unknown as BackupMethod
  const request = { cluster: 'main', type: 'incr', maxChain: 15 } as BackupRequest
  const { type, warnings: told } = await findParent(request, method, facts, destinations, contextOf())
  expect(type).toBe('full')
  expect(told).toEqual([
    `a full backup is taken: ${newest.id} is no parent: the record of ${FULL.id} is gone from repository "local"`,
  ])
})

import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { Destinations } from '../../src/backup/destinations.ts'
import type { BackupMethod, BackupRequest } from '../../src/backup/method.ts'
import { openRun } from '../../src/backup/open-run.ts'
import { updateCatalog } from '../../src/catalog/catalog.ts'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { Events } from '../../src/events.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { increment, keysOf, record, recordOf, SEGMENT, storeBackup } from '../catalog/stored.ts'
import { plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'

const IDENTITY = { systemIdentifier: '7400000000000000001', walSegmentBytes: SEGMENT }
const FULL = record('20261101T120000Z-full', { first: 10 })
const NEXT = recordOf(increment('20261102T120000Z-incr', FULL, { first: 12 }))
const ALONE = record('20261103T120000Z-full', { first: 14 })
const DEBRIS = 'main/backups/20261030T120000Z-full/base.0001.tar.zst'

test('a backup that lost its record is neither removed as debris nor gone on with', async () => {
  await using scratch = await Scratch.create()
  const storage = new LocalStorage(join(scratch.path, 'repository'))
  await claimIdentity(storage, 'main', IDENTITY)
  for (const backup of [FULL, NEXT, ALONE]) await storeBackup(storage, backup)
  await updateCatalog(storage, 'main', new Date())
  await storage.put(DEBRIS, Buffer.from('x'))
  // Upon the first another one is built; of the second only the catalog tells.
  for (const { id } of [FULL, ALONE]) await rm(join(storage.location, `main/backups/${id}/backup.json`))

  const warnings: string[] = []
  const context = {
    events: new Events().on('warning', ({ text }) => warnings.push(text)),
    signal: new AbortController().signal,
    now: () => new Date(),
    makeIfNew: async () => {},
  }
  await using destinations = await Destinations.open(
    [plainRepository('local', storage)],
    'main',
    IDENTITY,
    context,
  )
  const request = { cluster: 'main', resume: true, codec: { method: 'zstd', level: 1 } } as BackupRequest
  const method = { name: 'files', resumes: true } as unknown as BackupMethod
  const run = await openRun(
    request,
    method,
    { type: 'full', parent: undefined, warnings: [] },
    destinations,
    context,
  )

  expect([FULL.id, ALONE.id]).not.toContain(run.id)
  expect(warnings).toEqual(
    [FULL, ALONE].map(({ id }) => expect.stringContaining(`repository "local": backup ${id} has lost its`)),
  )
  const shards = [FULL, NEXT, ALONE].map(({ id }) => `main/backups/${id}/base.0001.tar.zst`)
  expect((await keysOf(storage, 'main/backups/')).filter((key) => key.endsWith('.zst'))).toEqual(shards)
})

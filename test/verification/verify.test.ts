import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import type { VerifiedBackup, VerifiedRepository } from '../../src/verification/verify-repository.ts'
import { answerOf, backUp, failureOf } from '../backup/commands.ts'
import { Lab } from '../lab/lab.ts'
import { newKey } from '../lab/lab-repository.ts'
import { requireServer } from '../lab/programs.ts'
import { objectOf } from '../wal/segments.ts'

type Answer = ({ repository: string } & VerifiedRepository)[]

let lab: Lab
let record: BackupRecord

beforeAll(async () => {
  lab = await Lab.create()
  record = await backUp(lab)
})
beforeEach((context) => void requireServer(context))
afterAll(() => lab?.[Symbol.asyncDispose]())

const fileOf = (name: string, id = record.id) => join(lab.repository, 'main/backups', id, name)
const shardOf = ({ objects }: BackupRecord) => objects.find(({ kind }) => kind === 'shard')!.name

/** Verifies one backup. @returns the exit code, and what is said of the backup */
async function verify(
  id: string,
): Promise<VerifiedBackup & VerifiedRepository['wal'] & { exitCode: number | undefined }> {
  const { exitCode, stdout } = await lab.pgrecall(['verify', id, '--json'])
  const [look] = JSON.parse(stdout) as Answer
  return { exitCode, ...look!.wal, ...look!.backups[0]! }
}

/** Runs with a file that is spoiled, and mends it again. */
async function withSpoiled<T>(path: string, work: () => Promise<T>): Promise<T> {
  const whole = await readFile(path)
  const spoiled = Buffer.from(whole)
  spoiled[spoiled.length - 10]! ^= 1
  await writeFile(path, spoiled)
  try {
    return await work()
  } finally {
    await writeFile(path, whole)
  }
}

test('a backup that is as it was stored is sound, with its WAL', async () => {
  const found = await verify('latest')
  expect(found).toMatchObject({ exitCode: 0, id: record.id, faults: [], sizeOnly: 0 })
  expect(found).toMatchObject({ objects: record.objects.length, bytes: record.storedBytes, files: 1 })
})

test('a record that was changed is a fault of its backup', async () => {
  const found = await withSpoiled(fileOf('backup.json'), () => verify(record.id))
  expect(found).toMatchObject({ exitCode: 12, faults: [{ key: `main/backups/${record.id}/backup.json` }] })
})

test('what is missing is named: an object, and WAL that the backup needs', async () => {
  const shard = fileOf(shardOf(record))
  const segment = objectOf(lab, record.start.walFile)
  for (const path of [shard, segment]) await rename(path, `${path}.aside`)
  const found = await verify(record.id)
  for (const path of [shard, segment]) await rename(`${path}.aside`, path)
  expect(found.exitCode).toBe(12)
  expect(found.faults.map(({ reason }) => reason)).toEqual([
    'it is missing',
    'it is missing from the archive',
  ])
})

test('WAL whose bytes are others is found', async () => {
  const found = await withSpoiled(objectOf(lab, record.stop.walFile), () => verify(record.id))
  expect(found.exitCode).toBe(12)
  expect(found.faults[0]!.reason).toContain('is damaged')
})

test('a backup that is not there is told', async () => {
  expect(await failureOf(lab, ['verify', '20200101T000000Z-full'])).toMatchObject({ kind: 'absent' })
})

describe('what is encrypted', () => {
  let sealed: BackupRecord
  let identityFile: string
  beforeAll(async () => {
    const key = await newKey(lab.scratch)
    identityFile = key.identityFile
    await lab.writeConfiguration(({ repositories }) => {
      repositories.local!.encryption = { recipients: key.recipients }
    })
    sealed = await backUp(lab)
  })

  test('is verified on a host that has no secret key; of its WAL, the size', async () => {
    expect(await verify(sealed.id)).toMatchObject({ exitCode: 0, faults: [], sizeOnly: 1 })
    const spoiled = () => verify(sealed.id)
    const found = await withSpoiled(fileOf(shardOf(sealed), sealed.id), spoiled)
    expect(found).toMatchObject({
      exitCode: 12,
      faults: [{ reason: 'its bytes are not those that were stored' }],
    })
    const segment = `${objectOf(lab, sealed.start.walFile)}.age`
    const whole = await readFile(segment)
    await writeFile(segment, whole.subarray(0, -1))
    expect(await verify(sealed.id)).toMatchObject({
      exitCode: 12,
      faults: [{ reason: expect.stringContaining('bytes instead of') }],
    })
    await writeFile(segment, whole)
  })

  test('is read to its last byte where the key is', async () => {
    await lab.writeConfiguration(({ repositories }) => {
      repositories.local!.encryption = { recipients: sealed.recipients, identityFile }
    })
    expect(await verify(sealed.id)).toMatchObject({ exitCode: 0, faults: [], sizeOnly: 0 })
    const segment = `${objectOf(lab, sealed.start.walFile)}.age`
    const found = await withSpoiled(segment, () => verify(sealed.id))
    expect(found).toMatchObject({ exitCode: 12 })
  })

  test('all backups are looked at when none is named', async () => {
    const [look] = await answerOf<Answer>(lab, ['verify'])
    expect(look!.backups.map(({ id }) => id)).toEqual([record.id, sealed.id])
  })
})

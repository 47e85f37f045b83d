import { readFile } from 'node:fs/promises'
import { GetBucketPolicyCommand, PutBucketPolicyCommand } from '@aws-sdk/client-s3'
import { beforeEach, describe, expect, test } from 'vitest'
import { claimIdentity, markRepository } from '../../src/catalog/identity.ts'
import { lockNeeded } from '../../src/catalog/immutability.ts'
import { walKey } from '../../src/catalog/layout.ts'
import { acquireLock } from '../../src/catalog/lock.ts'
import { pinBackup } from '../../src/catalog/pin.ts'
import { removeBackup } from '../../src/catalog/remove-backup.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import { type ProbeFinding, readObject, type S3Address } from '../../src/storage/storage.ts'
import { answerOf, backUp, failureOf, listedBackups } from '../backup/commands.ts'
import { keysOf, record, SEGMENT, storeBackup, storeWal } from '../catalog/stored.ts'
import { gatewayMissing, sharedGateway } from '../lab/gateway.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { plainRepository } from '../lab/repositories.ts'

const ID = '20261101T120000Z-full'
const BACKUP = record(ID, { first: 10, last: 11 })
const IDENTITY = { systemIdentifier: '7400000000000000001', walSegmentBytes: SEGMENT }
/** What docs/s3.md names beside the policies, for a repository that locks. */
const FOR_LOCKS = ['s3:PutObjectRetention', 's3:GetObjectRetention', 's3:GetObjectLegalHold']
/** Ceph 16 ignores conditions in buckets with versions. */
const CEPH = { conditionalWrites: false }

interface Statement {
  Effect: string
  Action: string[]
  Resource: string
}

describe.skipIf(gatewayMissing())('the policies of docs/s3.md are enough, and not more', () => {
  beforeEach((context) => void requireServer(context))

  test('all of it', async () => {
    const storage = await withPolicy('full')
    expect(await troubles(storage)).toEqual(['warn protection'])
    await storeAsBackup(storage)
    {
      await using _lock = await acquireLock(storage, 'main', { purpose: 'retention', now: () => new Date() })
      await removeBackup(storage, 'main', ID)
    }
    expect((await keysOf(storage)).filter((key) => !key.includes('/wal/'))).toEqual([
      'main/cluster.json',
      'pgrecall.json',
    ])
  })

  test('all of it, in a bucket that locks', async () => {
    const storage = await withPolicy('full', [...FOR_LOCKS, 's3:DeleteObjectVersion'], {
      objectLock: { mode: 'GOVERNANCE', days: 1 },
      ...CEPH,
    })
    expect(await troubles(storage)).toEqual(['warn write on a condition'])
    await storeAsBackup(storage)
    await expect(removeBackup(storage, 'main', ID)).rejects.toMatchObject({ kind: 'refused' })
  })

  test('write and never delete', async () => {
    const storage = await withPolicy('write')
    expect(await troubles(storage)).toEqual(['warn remove an object', 'warn protection'])
    await storeAsBackup(storage)
    await expect(storage.remove(walKey('main', name(10)))).rejects.toThrow(
      'the credentials lack s3:DeleteObject',
    )
  })

  test('write and never delete: a database host backs up with it, also after a run that was killed', async () => {
    const storage = await withPolicy('write')
    const { bucket, credentialsFile, prefix } = storage.address
    await markRepository(storage)
    await using lab = await Lab.create({
      repositories: { offsite: 's3' },
      configure: ({ repositories }) =>
        void Object.assign(repositories.offsite!, { bucket, credentialsFile, prefix }),
    })
    const debris = 'main/backups/20261101T120000Z-full/base.0001.tar.zst'
    await storage.put(debris, Buffer.from('x'))
    const findings = await answerOf<ProbeFinding[]>(lab, ['check'])
    expect(findings.filter(({ verdict }) => verdict === 'warn').map(({ text }) => text)).toContainEqual(
      expect.stringMatching(/^remove an object: .*the credentials lack s3:DeleteObject/),
    )
    const backups = [await backUp(lab), await backUp(lab)]
    expect(await listedBackups(lab)).toEqual(backups.map(({ id }) => id))
    expect(await keysOf(storage)).toContain(debris)
    // Each run's lock, released.
    for await (const { bytes } of storage.list('main/locks/')) expect(bytes).toBe(0)
    const failure = await failureOf(lab, ['retention', '--full', '1'])
    expect(failure.message).toContain('the credentials lack s3:DeleteObject')
  })

  test('write and never delete, in a bucket that locks', async () => {
    const storage = await withPolicy('write', FOR_LOCKS, {
      objectLock: { mode: 'COMPLIANCE', days: 1 },
      ...CEPH,
    })
    expect(await troubles(storage)).toEqual(['warn write on a condition', 'warn remove an object'])
    await storeAsBackup(storage)
    await storage.put(walKey('main', name(12)), [Buffer.from('x')], { ifAbsent: true, immutable: true })
    for (const key of [walKey('main', name(10)), walKey('main', name(12)), `main/backups/${ID}/backup.json`])
      expect((await storage.stat(key))!.lockedUntil, key).toBeDefined()
  })

  test('read only', async () => {
    const owner = await withPolicy('full')
    await storeAsBackup(owner)
    const storage = await withPolicy('read', [], owner.address)
    expect(await keysOf(storage)).toEqual(await keysOf(owner))
    expect(await readObject(storage, `main/backups/${ID}/backup.json`)).toBeDefined()
    expect(await readObject(storage, walKey('main', name(99)))).toBeUndefined()
    await expect(pinBackup(storage, 'main', ID, 'restore', () => new Date())).rejects.toThrow(
      'the credentials lack s3:PutObject',
    )
  })
})

const name = (number: number) => segmentName(1, BigInt(number), SEGMENT)

/** What a backup does with a repository. */
async function storeAsBackup(storage: S3Storage): Promise<void> {
  await using lock = await acquireLock(storage, 'main', { purpose: 'backup', now: () => new Date() })
  await claimIdentity(storage, 'main', IDENTITY)
  await storage.sweep()
  await storeWal(storage, [10, 11])
  await storage.put(`main/backups/${ID}/base.0001.tar.zst`, parts())
  await lockNeeded(plainRepository('offsite', storage), BACKUP, new Date(), new AbortController().signal)
  await lock.confirm()
  await storeBackup(
    { ...storage, put: (key, source) => storage.put(key, source, { immutable: true }) } as S3Storage,
    BACKUP,
  )
}

/** More than one part of an upload. */
async function* parts() {
  for (let part = 0; part < 12; part++) yield Buffer.alloc(1024 * 1024, part)
}

/** The findings that are not well: verdict and subject. */
async function troubles(storage: S3Storage): Promise<string[]> {
  const findings: ProbeFinding[] = await Array.fromAsync(storage.probe())
  return findings
    .filter(({ verdict }) => verdict !== 'pass')
    .map(({ verdict, subject }) => `${verdict} ${subject}`)
}

/** A repository as a user sees it who has what a policy of the page allows, and what the page names beside it for its objects. */
async function withPolicy(
  policy: string,
  beside: string[] = [],
  overrides: Partial<S3Address> = {},
): Promise<S3Storage> {
  const gateway = await sharedGateway()
  const bucket =
    overrides.bucket ?? (await gateway.bucket({ objectLock: overrides.objectLock !== undefined }))
  const before = await statementsOf(bucket)
  const { credentialsFile } = await gateway.user(bucket, ['s3:GetBucketLocation'])
  const { Principal } = (await statementsOf(bucket)).at(-1)!
  const page = await readFile(new URL('../../docs/s3.md', import.meta.url), 'utf8')
  const [, json] = new RegExp(`<!-- policy: ${policy} -->\n\`\`\`json\n(.*?)\n\`\`\``, 's').exec(page)!
  const { Statement } = JSON.parse(json!.replaceAll('acme-backups', bucket)) as { Statement: Statement[] }
  const statements = Statement.map((statement) => ({
    ...statement,
    Principal,
    Action: [...statement.Action, ...(statement.Resource.endsWith('*') ? beside : [])],
  }))
  const text = JSON.stringify({ Version: '2012-10-17', Statement: [...before, ...statements] })
  await gateway.client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy: text }))
  return new S3Storage({ ...gateway.address(bucket), ...overrides, prefix: 'postgres/', credentialsFile })
}

async function statementsOf(Bucket: string): Promise<(Statement & { Principal: unknown })[]> {
  const { client } = await sharedGateway()
  const { Policy = '{"Statement":[]}' } = await client
    .send(new GetBucketPolicyCommand({ Bucket }))
    .catch(() => ({ Policy: undefined }))
  return JSON.parse(Policy).Statement
}

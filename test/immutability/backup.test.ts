import { DeleteObjectCommand, ListObjectVersionsCommand } from '@aws-sdk/client-s3'
import { beforeEach, describe, expect, test } from 'vitest'
import type { BackupRecord } from '../../src/catalog/backup-record.ts'
import { markRepository } from '../../src/catalog/identity.ts'
import { backupRecordKey, walKey } from '../../src/catalog/layout.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import { answerOf, backUp, failureOf, listedBackups } from '../backup/commands.ts'
import { keysOf } from '../catalog/stored.ts'
import { FaultProxy } from '../lab/fault-proxy.ts'
import { accessDenied } from '../lab/faults.ts'
import { gatewayMissing, sharedGateway } from '../lab/gateway.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'

/** Ceph 16 ignores conditions in buckets with versions. */
const LOCKING = { objectLock: { mode: 'GOVERNANCE' as const, days: 30 }, conditionalWrites: false }
const DAY = 24 * 3_600_000

describe.skipIf(gatewayMissing())('a backup into a bucket that locks', () => {
  beforeEach((context) => void requireServer(context))

  /** A lab whose only repository is a new bucket that locks. @param changes of its configuration */
  async function lockingLab(changes: { endpoint?: string } = {}): Promise<{ lab: Lab; storage: S3Storage }> {
    const gateway = await sharedGateway()
    const bucket = await gateway.bucket({ objectLock: true })
    const storage = new S3Storage(gateway.address(bucket, LOCKING))
    await markRepository(storage)
    const lab = await Lab.create({
      repositories: { offsite: 's3' },
      configure: ({ repositories }) =>
        void Object.assign(repositories.offsite!, { bucket, ...LOCKING, ...changes }),
    })
    return { lab, storage }
  }

  /** For how many days what lies below a prefix is still locked at least, by key; 0 for what is not. */
  async function lockedDays(storage: S3Storage, prefix = ''): Promise<Map<string, number>> {
    const days = new Map<string, number>()
    for (const key of await keysOf(storage, prefix)) {
      const until = (await storage.stat(key))!.lockedUntil?.getTime() ?? 0
      days.set(key, until === 0 ? 0 : Math.ceil((until - Date.now()) / DAY))
    }
    return days
  }

  test('is locked with its WAL, and nothing that changes is; retention keeps it and says why', async () => {
    const { lab: made, storage } = await lockingLab()
    await using lab = made
    const backup = await backUp(lab)
    for (const [key, days] of await lockedDays(storage))
      expect(days, key).toBe(/\/(backups|wal)\//.test(key) ? 30 : 0)
    expect([...(await lockedDays(storage, 'main/backups/')).keys()]).toContain(
      backupRecordKey('main', backup.id),
    )
    // The WAL was put before the backup counted, and is not locked for less than the rest.
    const walLock = (await storage.stat(walKey('main', backup.start.walFile)))!.lockedUntil!
    expect(walLock.getTime()).toBeGreaterThan(Date.parse(backup.finishedAt) + 30 * DAY - 5 * 60_000)
    expect(walLock.getTime()).toBeGreaterThanOrEqual(
      await earliestLock(storage, `main/backups/${backup.id}/`),
    )

    const second = await backUp(lab)
    const [result] = await answerOf<
      { plan: never; backups: { id: string; stays: boolean; reason: string }[] }[]
    >(lab, ['retention', '--full', '1'])
    expect(result!.backups).toEqual([
      expect.objectContaining({
        id: backup.id,
        stays: true,
        reason: expect.stringMatching(/^locked until 20/),
      }),
      expect.objectContaining({ id: second.id, stays: true }),
    ])
    expect(await listedBackups(lab)).toEqual([backup.id, second.id])
  })

  test('fails where the store does not lock, and nothing lists it', async () => {
    await using proxy = await FaultProxy.start(await sharedGateway())
    const { lab: made } = await lockingLab({ endpoint: proxy.endpoint })
    await using lab = made
    const denial = proxy.inject({
      match: 'PutObjectRetention',
      times: Number.POSITIVE_INFINITY,
      fault: accessDenied,
    })
    const failure = await failureOf(lab, ['backup'])
    expect(failure).toMatchObject({ kind: 'repository' })
    expect(failure.message).toContain('the credentials lack s3:PutObjectRetention')
    expect(denial.met).toBeGreaterThan(0)
    expect(await listedBackups(lab)).toEqual([])
    expect(
      proxy.requests.some(({ operation, key }) => operation === 'PutObject' && key.endsWith('backup.json')),
    ).toBe(false)
  })

  test('is taken although the one before was killed after it was locked, and left what nobody may remove', async () => {
    const { lab: made, storage } = await lockingLab()
    await using lab = made
    const killed = await backUp(lab)
    await takeAway(storage, backupRecordKey('main', killed.id))
    expect(await listedBackups(lab)).toEqual([])
    const second: BackupRecord = await backUp(lab)
    expect(await listedBackups(lab)).toEqual([second.id])
    const third = await backUp(lab, ['--no-resume'])
    expect(await listedBackups(lab)).toEqual([second.id, third.id])
  })

  async function earliestLock(storage: S3Storage, prefix: string): Promise<number> {
    const locks = await Promise.all((await keysOf(storage, prefix)).map((key) => storage.stat(key)))
    return Math.min(...locks.map((facts) => facts!.lockedUntil!.getTime()))
  }

  /** As an administrator may, where the mode is GOVERNANCE. */
  async function takeAway(storage: S3Storage, Key: string): Promise<void> {
    const { client } = await sharedGateway()
    const { bucket: Bucket } = storage.address
    const { Versions = [] } = await client.send(new ListObjectVersionsCommand({ Bucket, Prefix: Key }))
    for (const { VersionId } of Versions)
      await client.send(new DeleteObjectCommand({ Bucket, Key, VersionId, BypassGovernanceRetention: true }))
  }
})

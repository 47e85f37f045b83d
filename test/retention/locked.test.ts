import { PutObjectLegalHoldCommand, PutObjectRetentionCommand } from '@aws-sdk/client-s3'
import { beforeEach, describe, expect, test } from 'vitest'
import { loadCatalog } from '../../src/catalog/catalog.ts'
import { claimIdentity } from '../../src/catalog/identity.ts'
import { backupRecordKey, walKey } from '../../src/catalog/layout.ts'
import { Events } from '../../src/events.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { applyRetention, previewRetention, type RetentionContext } from '../../src/retention/apply.ts'
import type { S3Storage } from '../../src/storage/s3.ts'
import { keysOf, range, record, SEGMENT, storeBackup, storeWal } from '../catalog/stored.ts'
import { daysFromNow, lockedBucket } from '../immutability/locked-bucket.ts'
import { gatewayMissing, sharedGateway } from '../lab/gateway.ts'
import { poll } from '../lab/poll.ts'
import { plainRepository } from '../lab/repositories.ts'

const IDS = [1, 2, 3].map((day) => `2026110${day}T120000Z-full`) as [string, string, string]
const name = (number: number, timeline = 1) => segmentName(timeline, BigInt(number), SEGMENT)
const recordOf = (id: string) => backupRecordKey('main', id)
const shardOf = (id: string) => recordOf(id).replace('backup.json', 'base.0001.tar.zst')

describe.skipIf(gatewayMissing())('retention in a bucket that locks', () => {
  let storage: S3Storage
  let warnings: string[]
  beforeEach(async () => {
    storage = await lockedBucket()
    warnings = []
    await claimIdentity(storage, 'main', {
      systemIdentifier: '7400000000000000001',
      walSegmentBytes: SEGMENT,
    })
    for (const [index, id] of IDS.entries())
      await storeBackup(storage, record(id, { first: 10 * (index + 1) }))
    await storeWal(storage, range(5, 31))
  })

  const context = (): RetentionContext => ({
    repository: plainRepository('offsite', storage),
    events: new Events().on('warning', ({ text }) => warnings.push(text)),
    signal: new AbortController().signal,
    now: () => new Date(),
  })
  const apply = () => applyRetention('main', { full: 1 }, context())
  const backups = async () =>
    (await loadCatalog(storage, 'main', { fresh: true })).backups.map(({ id }) => id)
  const runs = async () =>
    (await loadCatalog(storage, 'main', { fresh: true })).wal.flatMap(({ ranges }) =>
      ranges.map(({ first, last }) => [first, last]),
    )
  const hold = async (Key: string, Status: 'ON' | 'OFF') => {
    const { client } = await sharedGateway()
    await client.send(
      new PutObjectLegalHoldCommand({ Bucket: storage.address.bucket, Key, LegalHold: { Status } }),
    )
  }

  test('a backup whose record is locked stays, with its WAL, and the plan says until when', async () => {
    const until = daysFromNow(7)
    until.setMilliseconds(0)
    await storage.lockUntil(recordOf(IDS[1]), until)
    const preview = await previewRetention('main', { full: 1 }, context())
    const { plan, removedBackups, refusals } = await apply()
    expect(plan).toEqual(preview)
    expect(plan.backups.map(({ stays, reason }) => [stays, reason])).toEqual([
      [false, 'beyond the newest 1'],
      [true, `locked until ${until.toISOString().replace('.000', '')}`],
      [true, 'one of the newest 1'],
    ])
    expect([removedBackups, refusals, warnings]).toEqual([1, [], []])
    expect(await backups()).toEqual([IDS[1], IDS[2]])
    expect(await runs()).toEqual([[name(20), name(31)]])
  })

  test('WAL goes up to the first file that is locked, so that no hole comes to be; other timelines go on', async () => {
    const until = daysFromNow(3)
    for (const number of [15, 16, 22]) await storage.lockUntil(walKey('main', name(number)), until)
    await storeWal(storage, range(25, 32), { timeline: 2 })
    const { lockedWal, removedSegments, freedBytes } = await apply()
    expect(await runs()).toEqual([
      [name(15), name(31)],
      [name(30, 2), name(32, 2)],
    ])
    expect(lockedWal).toEqual([{ timeline: 1, name: name(15), lockedUntil: expect.stringMatching(/^2/) }])
    expect(Math.abs(Date.parse(lockedWal[0]!.lockedUntil!) - until.getTime())).toBeLessThan(1000)
    expect(removedSegments).toBe(15)
    expect(freedBytes).toBeGreaterThan(0)
    expect(warnings).toEqual([])
  })

  test('when a lock has ended, the next run removes what it kept', async () => {
    const kept = [recordOf(IDS[0]), walKey('main', name(12))]
    for (const key of kept) await storage.lockUntil(key, daysFromNow(1))
    await apply()
    expect(await backups()).toEqual([IDS[0], IDS[2]])
    for (const key of kept) await unlock(key)
    await apply()
    expect(await backups()).toEqual([IDS[2]])
    expect(await runs()).toEqual([[name(30), name(31)]])
  })

  test('a backup under a legal hold is told of, stays whole, and stops nothing else', async () => {
    await hold(recordOf(IDS[0]), 'ON')
    const { refusals, removedBackups } = await apply()
    expect(refusals).toEqual([
      `cannot remove ${storage.location}/${recordOf(IDS[0])}: the store keeps it locked`,
    ])
    expect(warnings).toEqual(refusals)
    expect(removedBackups).toBe(1)
    expect(await backups()).toEqual([IDS[0], IDS[2]])
    expect(await keysOf(storage, `main/backups/${IDS[0]}/`)).toHaveLength(2)
    expect((await runs())[0]![0]).toBe(name(10))
  })

  test('what is left of an unfinished backup stays quietly while it is locked; what is not goes', async () => {
    await storage.remove(recordOf(IDS[0]))
    await storage.put(`main/backups/${IDS[0]}/free.tar.zst`, Buffer.alloc(10))
    await storage.lockUntil(shardOf(IDS[0]), daysFromNow(1))
    await apply()
    expect(await keysOf(storage, `main/backups/${IDS[0]}/`)).toEqual([shardOf(IDS[0])])
    expect(warnings).toEqual([])
    await unlock(shardOf(IDS[0]))
    await apply()
    expect(await keysOf(storage, `main/backups/${IDS[0]}/`)).toEqual([])
  })

  /** As an administrator may, where the mode is GOVERNANCE. */
  async function unlock(Key: string): Promise<void> {
    const { client } = await sharedGateway()
    const retention = { Mode: 'GOVERNANCE' as const, RetainUntilDate: new Date(Date.now() + 1000) }
    const input = {
      Bucket: storage.address.bucket,
      Key,
      Retention: retention,
      BypassGovernanceRetention: true,
    }
    await client.send(new PutObjectRetentionCommand(input))
    await poll(async () => new Date() > ((await storage.stat(Key))?.lockedUntil ?? new Date(0)), {
      what: 'the end of the lock',
    })
  }
})

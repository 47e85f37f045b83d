import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import { readBackupRecord } from '../../src/catalog/backup-record.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import { readArchivedFile } from '../../src/wal/read.ts'
import { gatewayMissing, sharedGateway } from '../lab/gateway.ts'
import { encryptedRepository, plainRepository } from '../lab/repositories.ts'
import { Scratch } from '../lab/scratch.ts'
import { archiveSample, copyAll, idsIn, localStorage, sampleSegment, storeSample } from './sample.ts'

const ID = '20260101T000000Z-full'
const SEGMENTS = 4

describe.skipIf(gatewayMissing())('with a bucket', () => {
  let scratch: Scratch
  beforeEach(async () => {
    scratch = await Scratch.create()
  })
  afterEach(() => scratch[Symbol.asyncDispose]())

  test('what went there encrypted comes back as it was', async () => {
    const gateway = await sharedGateway()
    const { identity, recipient } = await newIdentity()
    const bucket = new S3Storage(gateway.address(await gateway.bucket()))
    const here = plainRepository('here', await localStorage(scratch, 'here'))
    const there = encryptedRepository('there', bucket, [recipient], [identity])
    const back = plainRepository('back', await localStorage(scratch, 'back'))
    const wal = await archiveSample(scratch, here, SEGMENTS)
    await storeSample(here, ID, 0)
    for (const [from, to] of [
      [here, there],
      [there, back],
    ] as const) {
      expect(await copyAll(from, to)).toMatchObject({ walFiles: SEGMENTS, failures: [] })
      expect((await copyAll(from, to)).plan.steps).toEqual([])
      expect(await idsIn(to)).toEqual([ID])
    }
    for (const [index, segment] of wal.entries()) {
      expect((await readArchivedFile(back, 'main', sampleSegment(index)))?.equals(segment)).toBe(true)
    }
    const objects = async ({ storage }: typeof here) =>
      (await readBackupRecord(storage, 'main', ID))!.objects.filter(({ kind }) => kind !== 'index')
    expect(await objects(back)).toEqual(await objects(here))
  })
})

import { S3Storage } from '../../src/storage/s3.ts'
import { sharedGateway } from '../lab/gateway.ts'

/** An empty repository in a bucket of its own, which can lock. */
export async function lockedBucket(): Promise<S3Storage> {
  const gateway = await sharedGateway()
  const bucket = await gateway.bucket({ objectLock: true })
  return new S3Storage(gateway.address(bucket, { objectLock: { mode: 'GOVERNANCE', days: 30 } }))
}

export const daysFromNow = (days: number) => new Date(Date.now() + days * 24 * 3_600_000)

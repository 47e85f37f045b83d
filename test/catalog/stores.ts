import { join } from 'node:path'
import { LocalStorage } from '../../src/storage/local.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import type { S3Address, Storage } from '../../src/storage/storage.ts'
import { gatewayMissing, sharedGateway } from '../lab/gateway.ts'
import type { Scratch } from '../lab/scratch.ts'

let count = 0

/** An empty repository in a bucket, by its address. */
export async function bucketAddress(overrides: Partial<S3Address> = {}): Promise<S3Address> {
  const gateway = await sharedGateway()
  return gateway.address(await gateway.bucket(), { prefix: `repository-${++count}/`, ...overrides })
}

/** A kind of store, for suites that hold in all of them. */
export interface Store {
  name: string
  /** Why there is none on this machine. */
  missing?: string | undefined
  /** An empty repository of its own. */
  open: (scratch: Scratch) => Promise<Storage>
}

/** Every kind of store in which hosts meet. */
export const STORES: Store[] = [
  {
    name: 'a folder',
    open: async (scratch) => new LocalStorage(join(scratch.path, `repository-${++count}`)),
  },
  { name: 'a bucket', missing: gatewayMissing(), open: async () => new S3Storage(await bucketAddress()) },
  {
    name: 'a bucket without conditional writes',
    missing: gatewayMissing(),
    open: async () => new S3Storage(await bucketAddress({ conditionalWrites: false })),
  },
]

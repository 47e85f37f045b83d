import { generateIdentity, identityToRecipient } from 'age-encryption'
import { markRepository } from '../../src/catalog/identity.ts'
import { LocalStorage } from '../../src/storage/local.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import type { Storage } from '../../src/storage/storage.ts'
import type { Gateway } from './gateway.ts'
import type { Scratch } from './scratch.ts'
import { labUser } from './user.ts'

/** A folder in the lab's scratch, or a new bucket of the gateway that the test file shares. */
export type Place = 'local' | 's3'

/** A repository of a lab. */
export interface LabRepository {
  /** What stands in the configuration file. */
  configuration: Record<string, unknown>
  /** The same for a test that looks into it. */
  storage: Storage
}

/** A repository in a folder, which `makeRepository` makes. */
export function localRepository(path: string): LabRepository {
  return { configuration: { type: 'local', path }, storage: new LocalStorage(path) }
}

/** A repository in a bucket of its own, made as `pgrecall init` does. */
export async function s3Repository(gateway: Gateway): Promise<LabRepository> {
  const bucket = await gateway.bucket()
  const { type, region, endpoint, forcePathStyle, credentialsFile } = gateway.address(bucket)
  const storage = new S3Storage(gateway.address(bucket))
  await markRepository(storage)
  return { configuration: { type, bucket, region, endpoint, forcePathStyle, credentialsFile }, storage }
}

/** As `pgrecall init` does, so that the server can archive from its first segment on. */
export async function makeRepository(path: string): Promise<void> {
  const storage = new LocalStorage(path)
  await storage.create(labUser)
  await markRepository(storage)
}

/** A key pair, of which the secret half lies in a file. @returns the section `encryption` of a repository */
export async function newKey(scratch: Scratch): Promise<{ recipients: string[]; identityFile: string }> {
  const identity = await generateIdentity()
  const identityFile = await scratch.file('identity.txt', `${identity}\n`)
  return { recipients: [await identityToRecipient(identity)], identityFile }
}

import { LocalStorage } from './local.ts'
import { S3Storage } from './s3.ts'
import type { Storage, StorageAddress } from './storage.ts'

/** Opens the storage at an address; called where clients are built: in main.ts and at the start of a worker. */
export function openStorage(address: StorageAddress): Storage {
  return address.type === 's3' ? new S3Storage(address) : new LocalStorage(address.path)
}

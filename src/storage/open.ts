import { LocalStorage } from './local.ts'
import type { Storage, StorageAddress } from './storage.ts'

/** Opens the storage at an address; called where clients are built: in main.ts and at the start of a worker. */
export function openStorage(address: StorageAddress): Storage {
  return new LocalStorage(address.path)
}

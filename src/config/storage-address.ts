import type { StorageAddress } from '../storage/storage.ts'
import type { RepositoryConfig } from './schema.ts'

/** How the storage of a configured repository is opened. */
export function storageAddress(config: RepositoryConfig): StorageAddress {
  if (config.type === 'local') return { type: 'local', path: config.path }
  const { encryption: _encryption, partSize, ...rest } = config
  return { ...rest, partBytes: partSize }
}

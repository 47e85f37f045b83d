import { BackupStore } from '../../src/backup/backup-store.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { plainRepository } from '../lab/repositories.ts'

/** The folder of a backup in some repositories. @param lost collects those that are given up */
export function storeIn(
  repositories: readonly Repository[],
  folder: string,
  { lost, indexRecipient }: { lost?: Map<string, unknown>; indexRecipient?: string } = {},
): BackupStore {
  const onLost = (name: string, error: unknown) => void lost?.set(name, error)
  return new BackupStore(repositories, folder, { indexRecipient, onLost })
}

/** The same in one repository, `local`, in which nothing is encrypted. */
export function plainStoreIn(storage: Storage, folder: string): BackupStore {
  return storeIn([plainRepository('local', storage)], folder)
}

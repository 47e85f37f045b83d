import type { Storage } from '../storage/storage.ts'
import { backupPrefix, backupRecordKey } from './layout.ts'

/**
 * Removes a backup, or what is left of one. Its record goes first: from then on the folder is debris, so a crash in
 * between leaves nothing that looks like a backup.
 * @returns the bytes of the objects that are gone
 */
export async function removeBackup(storage: Storage, cluster: string, id: string): Promise<number> {
  const record = backupRecordKey(cluster, id)
  const keys: string[] = []
  let bytes = 0
  for await (const object of storage.list(backupPrefix(cluster, id))) {
    keys.push(object.key)
    bytes += object.bytes
  }
  await storage.remove(record)
  for (const key of keys) if (key !== record) await storage.remove(key)
  return bytes
}

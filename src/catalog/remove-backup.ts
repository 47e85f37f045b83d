import { PgrecallError, reasonOf } from '../errors.ts'
import type { Storage } from '../storage/storage.ts'
import { backupPrefix, backupRecordKey } from './layout.ts'

/** What became of a backup that was to be removed. */
export interface RemovedBackup {
  /** Of the objects that are gone. */
  bytes: number
  /** The first of the objects that the store keeps locked, which are debris now, for a later run. */
  refusal?: { key: string; error: PgrecallError }
}

/**
 * Removes a backup, or what is left of one. Its record goes first: from then on the folder is debris, so a crash in
 * between leaves nothing that looks like a backup.
 * @throws PgrecallError `refused` where the record itself is locked: then all of the backup is still there
 */
export async function removeBackup(storage: Storage, cluster: string, id: string): Promise<RemovedBackup> {
  const record = backupRecordKey(cluster, id)
  const objects = await Array.fromAsync(storage.list(backupPrefix(cluster, id)))
  let bytes = objects.find(({ key }) => key === record)?.bytes ?? 0
  let refusal: RemovedBackup['refusal']
  if (objects.some(({ key }) => key === record)) await storage.remove(record)
  // Only a file system can have a folder that a removal, killed at its end, has left empty; it is in nobody's way.
  else if (objects.length === 0 && storage.address.type === 'local')
    await storage.remove(record).catch(() => {})
  for (const object of objects.filter(({ key }) => key !== record)) {
    try {
      await storage.remove(object.key)
      bytes += object.bytes
    } catch (error) {
      if (!isRefusal(error)) throw error
      refusal ??= { key: object.key, error }
    }
  }
  return { bytes, ...(refusal && { refusal }) }
}

/**
 * Removes what an unfinished backup has left, as far as the store lets this host. What stays is in nobody's way, and goes when
 * somebody may remove it.
 * @param onLeft is told why something stays
 */
export async function removeDebris(
  storage: Storage,
  cluster: string,
  id: string,
  onLeft: (text: string) => void,
): Promise<void> {
  const left = (error: unknown) =>
    onLeft(`what is left of the unfinished backup ${id} stays: ${reasonOf(error)}`)
  try {
    const { refusal } = await removeUnfinished(storage, cluster, id)
    if (refusal) left(refusal.error)
  } catch (error) {
    left(error)
  }
}

/** The same, and tells what fails. A record that the listing shows after all was overlooked: then nothing is removed. */
export async function removeUnfinished(
  storage: Storage,
  cluster: string,
  id: string,
): Promise<RemovedBackup> {
  const record = backupRecordKey(cluster, id)
  for await (const { key } of storage.list(backupPrefix(cluster, id))) if (key === record) return { bytes: 0 }
  return removeBackup(storage, cluster, id)
}

/** Whether it is the store that keeps an object, by a lock. */
export function isRefusal(error: unknown): error is PgrecallError {
  return error instanceof PgrecallError && error.kind === 'refused'
}

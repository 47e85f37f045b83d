import { backupRecordKey } from '../catalog/layout.ts'
import { removeBackup } from '../catalog/remove-backup.ts'
import { PgrecallError, systemCode } from '../errors.ts'
import type { Destination } from './destinations.ts'
import type { BackupRun } from './method.ts'
import { KeptShards } from './resume.ts'

/** What copied shards are worth nothing after: their pages are damaged, or they fill up the repository. */
export function isWorthless(error: unknown): boolean {
  if (!(error instanceof PgrecallError)) return false
  return error.kind === 'pages' || ['ENOSPC', 'EDQUOT'].includes(systemCode(error.cause) ?? '')
}

/**
 * What a run that failed leaves: whole shards, for the next run to go on from, and nothing else; what cannot be removed
 * now is debris that the next run removes.
 */
export async function leaveRun(
  { request, store, id }: BackupRun,
  destination: Destination,
  { mayKeep }: { mayKeep: boolean },
): Promise<void> {
  const { repository } = destination
  await clearRun({ cluster: request.cluster, id }, destination, async () => {
    if (!mayKeep) return false
    const kept = await KeptShards.find([repository], store.folder, request.codec, store.names)
    return kept.offeredBytes > 0
  })
}

/**
 * Removes what a run that failed has stored. Nothing is touched once the lock is lost, or the backup exists: then the folder
 * is not ours any more.
 * @param isKept is asked first
 */
export async function clearRun(
  { cluster, id }: { cluster: string; id: string },
  { repository: { storage }, lock }: Destination,
  isKept: () => Promise<boolean> = async () => false,
): Promise<void> {
  try {
    await lock.confirm()
    if (await storage.stat(backupRecordKey(cluster, id))) return
    if (!(await isKept())) await removeBackup(storage, cluster, id)
  } catch {}
}

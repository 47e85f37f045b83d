import { catalogKey } from '../catalog/layout.ts'
import { acquireLock, type Lock } from '../catalog/lock.ts'
import { PgrecallError, systemCode } from '../errors.ts'
import type { Events } from '../events.ts'
import type { Storage } from '../storage/storage.ts'

/** On a full disk there is no room for the lock of the very command that makes room: the catalog is derived, and goes. */
export async function lockEvenIfFull(
  cluster: string,
  storage: Storage,
  { events, now, signal }: { events: Events; now: () => Date; signal: AbortSignal },
): Promise<Lock> {
  const onWarning = (text: string) => events.emit('warning', { text })
  const acquire = () => acquireLock(storage, cluster, { purpose: 'retention', now, signal, onWarning })
  try {
    return await acquire()
  } catch (error) {
    if (!(error instanceof PgrecallError) || systemCode(error.cause) !== 'ENOSPC') throw error
    await storage.sweep()
    await storage.remove(catalogKey(cluster))
    return acquire()
  }
}

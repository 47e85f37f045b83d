import { type BackupRecord, readBackupRecord } from '../catalog/backup-record.ts'
import { newestPhysical, updateCatalog } from '../catalog/catalog.ts'
import { readChain } from '../catalog/chain.ts'
import { storeRecord } from '../catalog/commit-backup.ts'
import { requireRepository } from '../catalog/identity.ts'
import { lockNeeded } from '../catalog/immutability.ts'
import { backupPrefix, synthId } from '../catalog/layout.ts'
import { acquireLock, type Lock } from '../catalog/lock.ts'
import { removeDebris } from '../catalog/remove-backup.ts'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { verifyWritten } from './verify-written.ts'
import { writeBackup } from './write-backup.ts'

export interface ConsolidationRequest {
  cluster: string
  /** The newest link of the chain; the newest backup when left out. */
  id: string | undefined
  jobs: number
  dryRun: boolean
  tool: BackupRecord['tool']
}

export interface ConsolidationContext {
  repository: Repository
  events: Events
  signal: AbortSignal
  now: () => Date
}

/** What came of it, or would come. */
export interface Consolidation {
  /** Of the full backup. */
  id: string
  /** What it is made of, oldest first; empty where there is nothing to do. */
  links: { id: string; storedBytes: number }[]
  /** Undefined when it was only asked what would be done. */
  record: BackupRecord | undefined
  /** Whether there was nothing to do: it had been done before, or the newest backup is a full one by itself. */
  wasThere: boolean
}

/**
 * Makes a full backup of a chain, out of what is in the repository and without the server: the same files as a restore
 * of the chain's newest link would give. It counts once every object was read again and is as it was written. The
 * chain stays as it is, for retention.
 *
 * It holds the cluster's lock, so neither a backup nor retention runs meanwhile. Killed at any moment, it leaves debris
 * at most, and can be run again.
 * @throws PgrecallError `absent`, `refused` for a full backup and where there is no room, `damaged` where a link is not what it
 *   must be, `key` where it is encrypted and no key fits, `busy` while a backup runs
 */
export async function consolidate(
  request: ConsolidationRequest,
  context: ConsolidationContext,
): Promise<Consolidation> {
  const { repository, events, now } = context
  const { storage } = repository
  const { cluster, dryRun } = request
  const seen = await look(request, storage)
  if (seen.there) return { id: seen.there.id, links: [], record: seen.there, wasThere: true }
  if (dryRun) return { ...outcomeOf(seen.chain), record: undefined, wasThere: false }
  await using lock = await lockAlone(cluster, context)
  const signal = AbortSignal.any([context.signal, lock.lost])
  await storage.sweep()
  // Until now retention may have removed some of it.
  const chain = await readChain(storage, await requireRecord(storage, cluster, seen.chain.at(-1)!.id))
  const outcome = outcomeOf(chain)
  const onLeft = (text: string) => events.emit('detail', { text })
  await removeDebris(storage, cluster, outcome.id, onLeft)
  try {
    const draft = await writeBackup(outcome.id, chain, { ...request, ...context, signal })
    await verifyWritten(draft, { ...request, ...context, signal })
    await lockNeeded(repository, draft, now(), signal)
    signal.throwIfAborted()
    await lock.confirm()
    const record = await storeRecord(storage, backupPrefix(cluster, outcome.id), draft, now())
    await refreshCatalog(cluster, context)
    return { ...outcome, record, wasThere: false }
  } catch (error) {
    const reason = signal.aborted ? signal.reason : error
    // Whoever took the lock from us may have begun the same.
    if (!lock.lost.aborted) await removeDebris(storage, cluster, outcome.id, onLeft)
    throw reason
  }
}

const outcomeOf = (chain: readonly BackupRecord[]) => ({
  id: synthId(chain.at(-1)!.id),
  links: chain.map(({ id, storedBytes }) => ({ id, storedBytes })),
})

/** Finds the chain, or the full backup that makes the work needless. */
async function look(
  { cluster, id: asked }: ConsolidationRequest,
  storage: Repository['storage'],
): Promise<{ there: BackupRecord } | { there: undefined; chain: BackupRecord[] }> {
  const newest = asked ?? (await newestPhysical(storage, cluster))
  if (newest === undefined) {
    // A folder that is not mounted must not look like an empty repository.
    await requireRepository(storage)
    throw new PgrecallError('absent', `cluster "${cluster}" has no backup in ${storage.location}`)
  }
  const record = await requireRecord(storage, cluster, newest)
  if (!record.parent && asked === undefined) return { there: record }
  if (!record.parent) {
    throw new PgrecallError('refused', `backup ${record.id} is a full one already`, {
      hint: 'name the newest link of a chain: "pgrecall list" shows them',
    })
  }
  const there = await readBackupRecord(storage, cluster, synthId(record.id))
  return there ? { there } : { there, chain: await readChain(storage, record) }
}

async function requireRecord(
  storage: Repository['storage'],
  cluster: string,
  id: string,
): Promise<BackupRecord> {
  const record = await readBackupRecord(storage, cluster, id)
  if (record) return record
  throw new PgrecallError('absent', `there is no backup ${id} in ${storage.location}`, {
    hint: '"pgrecall list" shows the backups that there are',
  })
}

/**
 * Takes the cluster's lock. A holder that only fell silent may wake up and write on for a moment, maybe under the very names
 * that this run would use; there is no hurry, and the next run finds the lock free.
 * @throws PgrecallError `busy`
 */
async function lockAlone(
  cluster: string,
  { repository: { storage }, events, now, signal }: ConsolidationContext,
): Promise<Lock> {
  const onWarning = (text: string) => events.emit('warning', { text })
  const lock = await acquireLock(storage, cluster, { purpose: 'consolidation', now, signal, onWarning })
  if (!lock.mayHaveRival) return lock
  await lock[Symbol.asyncDispose]()
  throw new PgrecallError(
    'busy',
    `the lock of cluster "${cluster}" was held by a host that fell silent, and may wake up`,
    {
      hint: 'make sure that nothing of pgrecall runs there any more, and run this again',
    },
  )
}

/** The backup counts already; a catalog that cannot be written only makes the next reader slower. */
async function refreshCatalog(
  cluster: string,
  { repository: { storage }, events, now }: ConsolidationContext,
): Promise<void> {
  await updateCatalog(storage, cluster, now()).catch((error) =>
    events.emit('warning', {
      text: `the backup is complete, but the catalog could not be written: ${reasonOf(error)}`,
    }),
  )
}

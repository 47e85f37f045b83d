import { debrisOf, loadCatalog, saveCatalog } from '../catalog/catalog.ts'
import { catalogKey, walNameOf, walPrefix } from '../catalog/layout.ts'
import { acquireLock, type Lock } from '../catalog/lock.ts'
import { livingPins, sweepPins } from '../catalog/pin.ts'
import { removeBackup } from '../catalog/remove-backup.ts'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError, systemCode } from '../errors.ts'
import type { Events } from '../events.ts'
import { numberOf, parseWalFile } from '../postgres/wal-file.ts'
import { planRetention, type RetentionPlan, type RetentionRules } from './plan.ts'

export interface RetentionContext {
  repository: Repository
  events: Events
  signal: AbortSignal
  now: () => Date
}

export interface RetentionResult {
  plan: RetentionPlan
  removedBackups: number
  removedWal: number
  freedBytes: number
}

/** What a run would do now. Takes no lock and changes nothing. */
export async function previewRetention(
  cluster: string,
  rules: RetentionRules,
  { repository, now }: RetentionContext,
): Promise<RetentionPlan> {
  // Whether a backup counts decides what is removed: each record is read, and none believed for being listed.
  const catalog = await loadCatalog(repository.storage, cluster, { fresh: true })
  return planRetention(catalog, rules, await livingPins(repository.storage, cluster, now()))
}

/**
 * Removes what no rule wants. The order survives a crash: of each backup its record and then
 * its objects, and last WAL from the oldest on; so what is listed is always whole, and the archive never has a hole.
 * Debris of killed runs goes too.
 *
 * @throws PgrecallError `busy` while a backup runs, `repository` when something cannot be removed
 */
export async function applyRetention(
  cluster: string,
  rules: RetentionRules,
  context: RetentionContext,
): Promise<RetentionResult> {
  const { repository, events, now } = context
  const { storage } = repository
  await using lock = await lockEvenIfFull(cluster, context)
  const signal = AbortSignal.any([context.signal, lock.lost])
  await storage.sweep()
  await sweepPins(storage, cluster, now())
  const plan = await previewRetention(cluster, rules, context)
  for (const text of plan.warnings) events.emit('warning', { text })
  const result: RetentionResult = { plan, removedBackups: 0, removedWal: 0, freedBytes: 0 }
  for (const { id } of plan.backups.filter((backup) => !backup.stays)) {
    signal.throwIfAborted()
    // A restore may have begun since the plan was made; it has pinned what it reads.
    if ((await livingPins(storage, cluster, now())).some((pin) => pin.backup === id)) continue
    events.emit('step', { text: `Removing backup ${id}` })
    result.freedBytes += await removeBackup(storage, cluster, id)
    result.removedBackups++
  }
  for (const id of await debrisOf(storage, cluster))
    result.freedBytes += await removeBackup(storage, cluster, id)
  await pruneWal(cluster, context, signal, result)
  await saveCatalog(storage, await loadCatalog(storage, cluster), now())
  return result
}

/** On a full disk there is no room for the lock of the very command that makes room: the catalog is derived, and goes. */
async function lockEvenIfFull(
  cluster: string,
  { repository: { storage }, events, now, signal }: RetentionContext,
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

/**
 * Removes WAL that no stored backup needs. What is needed is computed anew from what is stored now, so that a backup
 * that stayed for a reason the plan did not know of keeps its WAL.
 */
async function pruneWal(
  cluster: string,
  { repository, events }: RetentionContext,
  signal: AbortSignal,
  result: RetentionResult,
): Promise<void> {
  const { storage } = repository
  const catalog = await loadCatalog(storage, cluster, { fresh: true })
  const { walBefore } = planRetention(catalog, { full: Number.POSITIVE_INFINITY }, [])
  if (walBefore === undefined) return
  const keys: { key: string; bytes: number }[] = []
  for await (const { key, bytes } of storage.list(walPrefix(cluster))) {
    const file = parseWalFile(walNameOf(key) ?? '')
    // Histories stay: they are tiny, and tell how the timelines hang together.
    if (file && file.kind !== 'history' && numberOf(file, catalog.walSegmentBytes) < walBefore)
      keys.push({ key, bytes })
  }
  if (keys.length > 0) events.emit('step', { text: `Removing ${keys.length} WAL files that no backup needs` })
  for (const { key, bytes } of keys) {
    signal.throwIfAborted()
    await storage.remove(key)
    result.removedWal++
    result.freedBytes += bytes
  }
}

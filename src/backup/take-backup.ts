import type { BackupRecord } from '../catalog/backup-record.ts'
import { type Catalog, debrisOf, loadCatalog, updateCatalog } from '../catalog/catalog.ts'
import { claimIdentity } from '../catalog/identity.ts'
import { backupId, backupPrefix, backupRecordKey, momentOfBackupId } from '../catalog/layout.ts'
import { acquireLock, type Lock } from '../catalog/lock.ts'
import { removeBackup } from '../catalog/remove-backup.ts'
import type { Repository } from '../catalog/repository.ts'
import { droppedSince } from '../catalog/wal-ranges.ts'
import { PgrecallError, systemCode } from '../errors.ts'
import type { Events } from '../events.ts'
import { storeManifest, storeRecord, storeRestoreText } from './closing-objects.ts'
import { draftRecord } from './draft-record.ts'
import type { BackupMethod, BackupRequest, BackupRun, Taken } from './method.ts'
import { requireOwnWal } from './own-bytes.ts'
import { requireSpace } from './preflight.ts'
import { KeptShards } from './resume.ts'

export interface BackupContext {
  repository: Repository
  events: Events
  signal: AbortSignal
  now: () => Date
}

/**
 * Takes a full backup of a cluster, by any method.
 * When it resolves, the backup and all WAL that it needs are durable in the repository. When it rejects, or the
 * process is killed, the repository lists no such backup; whole shards of one that was interrupted are kept for the next
 * run, which takes what still holds and removes the rest.
 *
 * @throws PgrecallError `refused` before anything is copied, `busy`, `connection`, `repository`, `pages` or `failed` later
 */
export async function takeBackup(
  request: BackupRequest,
  method: BackupMethod,
  context: BackupContext,
): Promise<BackupRecord> {
  const { repository, events, now } = context
  const { storage } = repository
  const known = await method.check(request)
  await using lock = await acquireLock(storage, request.cluster, {
    purpose: 'backup',
    now,
    signal: context.signal,
    onWarning: (text) => events.emit('warning', { text }),
  })
  const signal = AbortSignal.any([context.signal, lock.lost, ...(method.lost ? [method.lost] : [])])
  await claimIdentity(storage, request.cluster, known.facts)
  await storage.sweep()
  const catalog = await loadCatalog(storage, request.cluster, { believingWalAt: now() })
  const run = await openRun(request, method, catalog, lock, { ...context, signal })
  try {
    await requireSpace(
      storage,
      known.bytes - run.kept.offeredBytes,
      catalog.backups.at(-1),
      request.codec.method !== 'none',
    )
    const startedAt = now()
    const taken = await method.take(run)
    requireSoundPages(request, taken)
    const manifest = await storeManifest(run, taken)
    const warnings = [...known.warnings, ...warningOfLostWal(catalog), ...taken.warnings]
    const draft = draftRecord(run, method.name, startedAt, { ...taken, warnings }, [manifest])
    const record = await storeRestoreText(storage, run.folder, draft)
    if (!request.standalone) {
      await method.awaitWal(run, taken)
      if (isOnHost(method)) await requireOwnWal(run, taken)
    }
    signal.throwIfAborted()
    await lock.confirm()
    const committed = await storeRecord(storage, run.folder, record, now())
    for (const text of record.warnings) events.emit('warning', { text })
    await refreshCatalog(committed, context)
    return committed
  } catch (error) {
    // What fails in consequence of a signal, or of a lost session or lock, is told as that.
    const reason = signal.aborted ? signal.reason : error
    await leave(run, method, lock, reason)
    throw reason
  }
}

/** The new backup's id and folder: those of an interrupted run, where it can be gone on with. All other debris goes. */
async function openRun(
  request: BackupRequest,
  method: BackupMethod,
  catalog: Catalog,
  lock: Lock,
  context: BackupContext,
): Promise<BackupRun> {
  const { repository, events, signal } = context
  const { storage } = repository
  const last = catalog.backups.at(-1)?.id ?? ''
  const debris = await debrisOf(storage, request.cluster)
  const mayResume = request.resume && method.resumes && !lock.mayHaveRival
  const interrupted = mayResume ? debris.filter((id) => id > last && id.endsWith('-full')).at(-1) : undefined
  for (const id of debris) {
    if (id === interrupted) continue
    events.emit('detail', { text: `Removing what is left of the unfinished backup ${id}` })
    await removeBackup(storage, request.cluster, id)
  }
  const common = { request, repository, events, signal }
  if (interrupted !== undefined) {
    const folder = backupPrefix(request.cluster, interrupted)
    const kept = await KeptShards.find(storage, folder, request.codec)
    if (kept.offeredBytes > 0) return { ...common, id: interrupted, folder, kept }
    await removeBackup(storage, request.cluster, interrupted)
  }
  const id = await newBackupId(catalog, context)
  const folder = backupPrefix(request.cluster, id)
  return { ...common, id, folder, kept: KeptShards.none(storage, folder) }
}

/** Ids sort by time, and the newest counts most: a clock that was set back must not make a new backup the oldest. */
async function newBackupId(catalog: Catalog, { repository, events, now }: BackupContext): Promise<string> {
  const last = catalog.backups.at(-1)?.id
  let moment = now()
  if (last !== undefined && backupId(moment, 'full') <= last) {
    const after = momentOfBackupId(last).getTime() + 1000
    if (after - moment.getTime() > 60_000) {
      events.emit('warning', {
        text: `this host's clock is behind the last backup, ${last}; the new one is named to follow it`,
      })
    }
    moment = new Date(after)
  }
  for (; ; moment = new Date(moment.getTime() + 1000)) {
    const id = backupId(moment, 'full')
    if (!(await repository.storage.stat(backupRecordKey(catalog.cluster, id)))) return id
  }
}

/** The data directory of a `stream` backup may be on another host. */
const isOnHost = ({ name }: BackupMethod) => name !== 'stream'

/** No recovery from an earlier backup gets past WAL that was given up. */
function warningOfLostWal({ backups, wal }: Catalog): string[] {
  const lost = droppedSince(wal, backups.at(-1))[0]
  if (!lost) return []
  return [
    `WAL was given up at ${lost.since} (${lost.reason}), so recovery to later moments begins with this backup`,
  ]
}

function requireSoundPages({ checksumFailures }: BackupRequest, { damaged = [] }: Taken): void {
  const first = damaged[0]
  if (checksumFailures === 'warn' || !first) return
  const pages = damaged.reduce((sum, file) => sum + file.pages, 0)
  throw new PgrecallError(
    'pages',
    `${pages} pages do not fit their checksums, the first in ${first.path}, block ${first.blocks[0]![0]}`,
    {
      hint: 'the disk or the memory damaged them; restore from an earlier backup, or take this one with --checksum-failures warn',
    },
  )
}

/** What copied shards are worth nothing after: their pages are damaged, or they fill up the repository. */
function isWorthless(error: unknown): boolean {
  if (!(error instanceof PgrecallError)) return false
  return error.kind === 'pages' || ['ENOSPC', 'EDQUOT'].includes(systemCode(error.cause) ?? '')
}

/**
 * What a run that failed leaves: whole shards, for the next run to go on from, and nothing else; what cannot be removed
 * now is debris that the next run removes. Nothing is touched once the lock is lost, or the backup exists: then the folder
 * is not ours any more.
 */
async function leave(run: BackupRun, method: BackupMethod, lock: Lock, error: unknown): Promise<void> {
  const { repository, request, folder, id } = run
  const { storage } = repository
  try {
    await lock.confirm()
    if (await storage.stat(backupRecordKey(request.cluster, id))) return
    if (method.resumes && request.resume && !isWorthless(error)) {
      const kept = await KeptShards.find(storage, folder, request.codec)
      if (kept.offeredBytes > 0) return
    }
    await removeBackup(storage, request.cluster, id)
  } catch {}
}

/** The backup counts already; a catalog that cannot be written only makes the next reader slower. */
async function refreshCatalog(
  record: BackupRecord,
  { repository, events, now }: BackupContext,
): Promise<void> {
  try {
    await updateCatalog(repository.storage, record.cluster, now())
  } catch (error) {
    events.emit('warning', {
      text: `the backup is complete, but the catalog could not be written: ${(error as Error).message}`,
    })
  }
}

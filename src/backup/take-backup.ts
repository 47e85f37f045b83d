import { join } from 'node:path'
import { type BackupRecord, summaryOf } from '../catalog/backup-record.ts'
import { type Catalog, debrisOf, loadCatalog, saveCatalog } from '../catalog/catalog.ts'
import { claimIdentity } from '../catalog/identity.ts'
import { backupId, backupPrefix, backupRecordKey, momentOfBackupId, walKey } from '../catalog/layout.ts'
import { acquireLock } from '../catalog/lock.ts'
import { removeBackup } from '../catalog/remove-backup.ts'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError } from '../errors.ts'
import type { Events } from '../events.ts'
import {
  type BackupStart,
  type BackupStop,
  reserveWal,
  startBackup,
  stopBackup,
} from '../postgres/low-level-backup.ts'
import type { Server, ServerFacts } from '../postgres/server.ts'
import { historyName } from '../postgres/wal-file.ts'
import { pushWalFile } from '../wal/push.ts'
import {
  storeControlShard,
  storeIndex,
  storeManifest,
  storeRecord,
  storeRestoreText,
} from './closing-objects.ts'
import { copyGroups } from './copy-pool.ts'
import { type Asked, draftRecord, objectOfShard } from './draft-record.ts'
import { copyOwnWal } from './own-wal.ts'
import { checkServer, requireSpace } from './preflight.ts'
import { type Scan, scanDataDirectory } from './scan.ts'
import type { StoredShard } from './shard.ts'
import { waitForWal } from './wait-for-wal.ts'

export interface BackupRequest extends Asked {
  jobs: number
  checkpoint: 'fast' | 'spread'
  archiveTimeoutMs: number
  /** The data directory that the configuration names, if any. */
  expectedDataDirectory: string | undefined
}

export interface BackupContext {
  server: Server
  repository: Repository
  events: Events
  signal: AbortSignal
  now: () => Date
}

/**
 * Takes a full backup of a running cluster's files, with PostgreSQL's low-level backup API.
 * When it resolves, the backup and all WAL that it needs are durable in the repository. When it rejects, or the
 * process is killed, the repository lists no such backup, and the next run removes what is left of it.
 *
 * @throws PgrecallError `refused` before anything is copied, `busy`, `connection`, `repository` or `failed` later
 * @see https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP
 */
export async function takeBackup(request: BackupRequest, context: BackupContext): Promise<BackupRecord> {
  const { server, repository, events, now } = context
  const { storage } = repository
  const { facts: known, warnings } = await checkServer({ server, ...request })
  await using lock = await acquireLock(storage, request.cluster, {
    purpose: 'backup',
    now,
    signal: context.signal,
    onWarning: (text) => events.emit('warning', { text }),
  })
  const signal = AbortSignal.any([context.signal, lock.lost, server.lost])
  await claimIdentity(storage, request.cluster, known)
  const catalog = await sweep(request.cluster, context)
  await requireSpace(
    storage,
    (await scan(known)).bytes,
    catalog.backups.at(-1),
    request.codec.method !== 'none',
  )

  const id = await newBackupId(catalog, context)
  const folder = backupPrefix(request.cluster, id)
  const startedAt = now()
  try {
    const start = await begin(request, { ...context, signal }, known, id)
    // Asked again: a tablespace that was made before the start is in no WAL that the restore will replay.
    const facts = await server.facts()
    await keepHistory(request, context, facts, start)
    const found = await scan(facts)
    const copied = await copyCluster(request, { ...context, signal }, folder, found)
    events.emit('step', { text: 'Ending the backup on the server' })
    const stop = await stopBackup(server, facts.version, facts.walSegmentBytes)
    requireOneTimeline(start, stop)
    const shards = [
      ...copied,
      await storeControlShard(storage, folder, request.codec, facts, stop.backupLabel, copied),
      ...(request.standalone
        ? await copyOwnWal({ folder, codec: request.codec, facts, start, stop }, { ...context, signal })
        : []),
    ]
    const objects = [
      ...shards.map(objectOfShard),
      await storeManifest(storage, folder, request.codec, facts, shards, { start, stop }),
      await storeIndex(storage, folder, request.codec, shards),
    ]
    const ends = { id, startedAt, start, stop }
    const draft = await draftRecord(request, facts, ends, {
      shards,
      objects,
      warnings: [...warnings, ...found.warnings],
    })
    const record = await storeRestoreText(storage, folder, draft)
    if (!request.standalone) await arrivalOfWal(request, { ...context, signal }, facts, start, stop)
    signal.throwIfAborted()
    await lock.confirm()
    const committed = await storeRecord(storage, folder, record, now())
    for (const text of record.warnings) events.emit('warning', { text })
    await refreshCatalog(committed, context)
    return committed
  } catch (error) {
    await discard(request.cluster, id, context)
    // What fails in consequence of a signal, or of a lost session or lock, is told as that.
    signal.throwIfAborted()
    throw error
  }
}

/** Removes what runs that were killed have left: with the lock held, no folder without a record is in use. */
async function sweep(cluster: string, { repository, events }: BackupContext): Promise<Catalog> {
  const { storage } = repository
  await storage.sweep()
  for (const id of await debrisOf(storage, cluster)) {
    events.emit('detail', { text: `Removing what is left of the unfinished backup ${id}` })
    await removeBackup(storage, cluster, id)
  }
  return loadCatalog(storage, cluster)
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

/**
 * A server that was promoted before pgrecall was set up has archived its timeline's history elsewhere, or nowhere; without
 * it no recovery on that timeline begins.
 */
async function keepHistory(
  request: BackupRequest,
  { repository, signal }: BackupContext,
  facts: ServerFacts,
  { timeline }: BackupStart,
): Promise<void> {
  const name = historyName(timeline)
  if (timeline === 1 || (await repository.storage.stat(walKey(request.cluster, name)))) return
  await pushWalFile({
    path: join(facts.dataDirectory, 'pg_wal', name),
    cluster: request.cluster,
    repositories: [repository],
    level: 1,
    signal,
  })
}

function scan(facts: ServerFacts): Promise<Scan> {
  return scanDataDirectory(facts.dataDirectory, facts.tablespaces, {
    majorVersion: facts.majorVersion,
    tablespaceFolder: `PG_${facts.majorVersion}_${facts.catalogVersion}`,
  })
}

async function begin(
  request: BackupRequest,
  { server, events, signal }: BackupContext,
  facts: ServerFacts,
  id: string,
): Promise<BackupStart> {
  const how = request.checkpoint === 'fast' ? 'a fast checkpoint' : 'the next spread checkpoint'
  events.emit('step', {
    text: `Starting backup ${id} of PostgreSQL ${facts.versionText.split(' ')[0]}; waiting for ${how}`,
  })
  if (request.standalone) await reserveWal(server, `pgrecall_${id.replace(/\W/g, '_').toLowerCase()}`)
  const label = request.label || `pgrecall ${id}`
  return orAborted(startBackup(server, facts.version, { label, fast: request.checkpoint === 'fast' }), signal)
}

/** A spread checkpoint takes minutes, and whoever stops us does not wait for it: the closed session ends its backup. */
function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason)
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}

async function copyCluster(
  request: BackupRequest,
  { repository, events, signal }: BackupContext,
  folder: string,
  found: Scan,
): Promise<StoredShard[]> {
  const { shards, vanished } = await copyGroups(found.groups, {
    storage: repository.storage,
    folder,
    codec: request.codec,
    jobs: request.jobs,
    task: 'Copying',
    events,
    signal,
  })
  if (vanished.length > 0) {
    events.emit('detail', {
      text: `${vanished.length} files were dropped while the cluster was copied`,
      facts: { vanished },
    })
  }
  return shards
}

/** A promotion of a standby during the backup voids it; here it can only mean that something is badly wrong. */
function requireOneTimeline(start: BackupStart, stop: BackupStop): void {
  if (start.walFile.slice(0, 8) === stop.walFile.slice(0, 8)) return
  throw new PgrecallError('failed', 'the server changed its timeline during the backup, which voids it', {
    hint: 'take the backup again',
  })
}

async function arrivalOfWal(
  request: BackupRequest,
  { server, repository, events, signal }: BackupContext,
  facts: ServerFacts,
  start: BackupStart,
  stop: BackupStop,
): Promise<void> {
  events.emit('step', {
    text: `Waiting for WAL ${start.walFile} to ${stop.walFile} in repository "${repository.name}"`,
  })
  await waitForWal(
    {
      cluster: request.cluster,
      repository,
      first: start.walFile,
      last: stop.walFile,
      timeline: start.timeline,
      segmentBytes: facts.walSegmentBytes,
      timeoutMs: request.archiveTimeoutMs,
    },
    { server, events, signal },
  )
}

/** The backup counts already; a catalog that cannot be written only makes the next reader slower. */
async function refreshCatalog(
  record: BackupRecord,
  { repository, events, now }: BackupContext,
): Promise<void> {
  try {
    const catalog = await loadCatalog(repository.storage, record.cluster)
    if (!catalog.backups.some((backup) => backup.id === record.id)) catalog.backups.push(summaryOf(record))
    await saveCatalog(repository.storage, catalog, now())
  } catch (error) {
    events.emit('warning', {
      text: `the backup is complete, but the catalog could not be written: ${(error as Error).message}`,
    })
  }
}

/** Best effort: what cannot be removed now is debris that the next run removes. */
async function discard(cluster: string, id: string, { repository }: BackupContext): Promise<void> {
  await removeBackup(repository.storage, cluster, id).catch(() => {})
}

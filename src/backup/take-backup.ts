import { newIdentity } from '../archive/age.ts'
import type { BackupRecord } from '../catalog/backup-record.ts'
import { type Catalog, debrisOf, updateCatalog } from '../catalog/catalog.ts'
import { storeRecord, storeRestoreText } from '../catalog/commit-backup.ts'
import { lockNeeded } from '../catalog/immutability.ts'
import { backupId, backupPrefix, backupRecordKey, momentOfBackupId } from '../catalog/layout.ts'
import { removeBackup, removeDebris } from '../catalog/remove-backup.ts'
import type { Repository } from '../catalog/repository.ts'
import { droppedSince } from '../catalog/wal-ranges.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import type { Events } from '../events.ts'
import { BackupStore } from './backup-store.ts'
import { storeManifest } from './closing-objects.ts'
import { type Destination, Destinations } from './destinations.ts'
import { draftRecord } from './draft-record.ts'
import type { BackupMethod, BackupRequest, BackupRun, Preflight, Taken } from './method.ts'
import { requireOwnWal } from './own-bytes.ts'
import { requireSpace } from './preflight.ts'
import { KeptShards } from './resume.ts'

export interface BackupContext {
  repositories: readonly Repository[]
  /** As in CommandContext. */
  makeIfNew: (repository: Repository) => Promise<void>
  events: Events
  signal: AbortSignal
  now: () => Date
}

/** What came of a backup: at least one repository has it. */
export interface BackupOutcome {
  /** By repository, in the order of the configuration. */
  records: { repository: string; record: BackupRecord }[]
  failures: { repository: string; required: boolean; error: unknown }[]
}

/**
 * Takes a full backup of a cluster, by any method, into all of its repositories at once: the cluster is read once.
 * When it resolves, the backup and all WAL that it needs are durable in the repositories that have a record. When it
 * rejects, or the process is killed before any record is written, no repository lists such a backup; whole shards of
 * one that was interrupted are kept for the next run, which takes what still holds and removes the rest.
 *
 * @throws PgrecallError `refused` before anything is copied, `busy`, `connection`, `repository`, `pages` or `failed` later
 */
export async function takeBackup(
  request: BackupRequest,
  method: BackupMethod,
  context: BackupContext,
): Promise<BackupOutcome> {
  const { repositories, now } = context
  const known = await method.check(request)
  await using destinations = await Destinations.open(repositories, request.cluster, known.facts, context)
  const signals = [context.signal, destinations.lost, ...(method.lost ? [method.lost] : [])]
  const signal = AbortSignal.any(signals)
  const run = await openRun(request, method, destinations, { ...context, signal })
  const records: BackupOutcome['records'] = []
  try {
    await requireRoom(run, destinations, known)
    const startedAt = now()
    const taken = await method.take(run)
    requireSoundPages(request, taken)
    const manifest = await storeManifest(run, taken)
    if (!request.standalone) {
      await method.awaitWal(run, taken)
      if (isOnHost(method)) await run.store.each((repository) => requireOwnWal(run, taken, repository))
    }
    signal.throwIfAborted()
    await run.store.each(async (repository) => {
      const { lock, catalog } = destinations.live.find((each) => each.repository === repository)!
      const warnings = [...known.warnings, ...warningOfLostWal(catalog), ...taken.warnings]
      const object = manifest[repository.name]!
      const draft = draftRecord(repository, run, method.name, startedAt, { ...taken, warnings }, object)
      const whole = await storeRestoreText(repository.storage, run.store.folder, draft)
      await lockNeeded(repository, whole, now(), signal)
      await lock.confirm()
      const record = await storeRecord(repository.storage, run.store.folder, whole, now())
      records.push({ repository: repository.name, record })
    })
  } catch (error) {
    // What fails in consequence of a signal, or of a lost session or lock, is told as that.
    const reason = signal.aborted ? signal.reason : error
    const mayKeep = method.resumes && request.resume && !isWorthless(reason)
    for (const destination of destinations.opened) await leave(run, destination, { mayKeep })
    throw reason
  }
  const failures = failuresOf(context, destinations, records)
  for (const destination of destinations.opened) {
    const isWithout = failures.some(({ repository }) => repository === destination.repository.name)
    // Nothing is kept there: what goes on from it would be another backup under the id of this one.
    if (isWithout) await leave(run, destination, { mayKeep: false })
  }
  const texts = new Set(records.flatMap(({ record }) => record.warnings))
  for (const text of texts) context.events.emit('warning', { text })
  for (const { repository } of destinations.live) await refreshCatalog(repository, request.cluster, context)
  const order = (name: string) => repositories.findIndex((repository) => repository.name === name)
  records.sort((a, b) => order(a.repository) - order(b.repository))
  return { records, failures }
}

function failuresOf(
  { repositories }: BackupContext,
  { failures }: Destinations,
  records: BackupOutcome['records'],
): BackupOutcome['failures'] {
  const isStored = (name: string) => records.some(({ repository }) => repository === name)
  return repositories
    .filter(({ name }) => failures.has(name) && !isStored(name))
    .map(({ name, required }) => ({ repository: name, required, error: failures.get(name) }))
}

/** The new backup's id and folder: those of an interrupted run, where it can be gone on with. All other debris goes. */
async function openRun(
  request: BackupRequest,
  method: BackupMethod,
  destinations: Destinations,
  context: BackupContext,
): Promise<BackupRun> {
  const { events, signal } = context
  const { cluster } = request
  const { live } = destinations
  const isEncrypted = live.some(({ repository }) => repository.keys.sealer)
  const own = isEncrypted ? await newIdentity() : undefined
  const runOf = (id: string, kept: KeptShards): BackupRun => {
    const store = new BackupStore(
      destinations.live.map(({ repository }) => repository),
      backupPrefix(cluster, id),
      { indexRecipient: own?.recipient, onLost: (name, error) => destinations.fail(name, error) },
    )
    for (const { repository, lock } of destinations.live) {
      lock.lost.addEventListener('abort', () => store.lose(repository.name, lock.lost.reason), { once: true })
    }
    return { request, events, signal, id, kept, indexIdentities: own ? [own.identity] : [], store }
  }
  const onLeft = (text: string) => events.emit('detail', { text })
  const interrupted = await clearDebris(request, method, destinations, context)
  if (interrupted !== undefined) {
    const repositories = live.map(({ repository }) => repository)
    const folder = backupPrefix(cluster, interrupted)
    const kept = await KeptShards.find(repositories, folder, request.codec).catch((error) => {
      // What holds things that may not be removed, as they are locked, is not gone on with.
      onLeft(`the unfinished backup ${interrupted} is not gone on with: ${reasonOf(error)}`)
      return KeptShards.none()
    })
    if (kept.offeredBytes > 0) return runOf(interrupted, kept)
    for (const { storage } of repositories) await removeDebris(storage, cluster, interrupted, onLeft)
  }
  return runOf(await newBackupId(live, cluster, context), KeptShards.none())
}

/** Removes what unfinished backups have left. @returns the one that can be gone on with, in every repository */
async function clearDebris(
  request: BackupRequest,
  method: BackupMethod,
  { live }: Destinations,
  { events }: BackupContext,
): Promise<string | undefined> {
  const found = await Promise.all(
    live.map(async (destination) => ({
      destination,
      debris: await debrisOf(destination.repository.storage, request.cluster, destination.catalog.backups),
    })),
  )
  const mayResume = request.resume && method.resumes && !live.some(({ lock }) => lock.mayHaveRival)
  const isInterrupted = (id: string) =>
    id.endsWith('-full') &&
    found.every(
      ({ debris, destination }) => debris.includes(id) && id > (destination.catalog.backups.at(-1)?.id ?? ''),
    )
  const interrupted = mayResume ? found[0]!.debris.filter(isInterrupted).at(-1) : undefined
  for (const { destination, debris } of found) {
    for (const id of debris) {
      if (id === interrupted) continue
      events.emit('detail', { text: `Removing what is left of the unfinished backup ${id}` })
      await removeDebris(destination.repository.storage, request.cluster, id, (text) =>
        events.emit('detail', { text }),
      )
    }
  }
  return interrupted
}

/** A repository in which it will not fit is given up before anything is copied. */
async function requireRoom(run: BackupRun, { live }: Destinations, { bytes }: Preflight): Promise<void> {
  const { request, kept, store } = run
  await store.each(async (repository) => {
    const { catalog } = live.find((destination) => destination.repository === repository)!
    const compresses = request.codec.method !== 'none'
    await requireSpace(repository.storage, bytes - kept.offeredBytes, catalog.backups.at(-1), compresses)
  })
}

/** Ids sort by time, and the newest counts most: a clock that was set back must not make a new backup the oldest. */
async function newBackupId(
  live: readonly Destination[],
  cluster: string,
  { events, now }: BackupContext,
): Promise<string> {
  const last = live
    .map(({ catalog }) => catalog.backups.at(-1)?.id ?? '')
    .reduce((newest, id) => (id > newest ? id : newest))
  let moment = now()
  if (last !== '' && backupId(moment, 'full') <= last) {
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
    const taken = await Promise.all(
      live.map(({ repository }) => repository.storage.stat(backupRecordKey(cluster, id))),
    )
    if (taken.every((record) => record === undefined)) return id
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
async function leave(
  { request, store, id }: BackupRun,
  { repository, lock }: Destination,
  { mayKeep }: { mayKeep: boolean },
): Promise<void> {
  const { storage } = repository
  try {
    await lock.confirm()
    if (await storage.stat(backupRecordKey(request.cluster, id))) return
    if (mayKeep) {
      const kept = await KeptShards.find([repository], store.folder, request.codec)
      if (kept.offeredBytes > 0) return
    }
    await removeBackup(storage, request.cluster, id)
  } catch {}
}

/** The backup counts already; a catalog that cannot be written only makes the next reader slower. */
async function refreshCatalog(
  { name, storage }: Repository,
  cluster: string,
  { events, now }: BackupContext,
): Promise<void> {
  try {
    await updateCatalog(storage, cluster, now())
  } catch (error) {
    events.emit('warning', {
      text: `the backup is complete, but the catalog of repository "${name}" could not be written: ${(error as Error).message}`,
    })
  }
}

import { parseCodec } from '../archive/codec.ts'
import { BackupStore } from '../backup/backup-store.ts'
import { storeManifest } from '../backup/closing-objects.ts'
import { objectsOfShard } from '../backup/draft-record.ts'
import type { StoredShard } from '../backup/shard.ts'
import {
  type BackupDraft,
  type BackupObject,
  type BackupRecord,
  readBackupRecord,
} from '../catalog/backup-record.ts'
import { newestBackup, updateCatalog } from '../catalog/catalog.ts'
import { readChain } from '../catalog/chain.ts'
import { storeRecord, storeRestoreText } from '../catalog/commit-backup.ts'
import { lockNeeded } from '../catalog/immutability.ts'
import { backupPrefix, synthId } from '../catalog/layout.ts'
import { acquireLock } from '../catalog/lock.ts'
import { isAsRecorded, ObjectSum } from '../catalog/object-sum.ts'
import { removeDebris } from '../catalog/remove-backup.ts'
import type { Repository } from '../catalog/repository.ts'
import { isSealed } from '../catalog/sealed-object.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { lsn } from '../postgres/lsn.ts'
import { reconstructionOf } from '../reconstruction/reconstruction.ts'
import { sideBySide } from '../side-by-side.ts'
import type { Storage } from '../storage/storage.ts'
import { rewriteShards } from './rewrite-shards.ts'

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
  id: string
  /** Oldest first. */
  links: { id: string; storedBytes: number }[]
  /** Undefined when it was only asked what would be done. */
  record: BackupRecord | undefined
  /** Whether it had been done before. */
  wasThere: boolean
}

/**
 * Makes a full backup of a chain, out of what is in the repository and without the server: the same files as a restore
 * of the chain's newest link would give. It counts once every object was read again and is as it was written. The
 * chain stays as it is, for retention.
 *
 * Killed at any moment, it leaves debris at most, and can be run again.
 * @throws PgrecallError `absent`, `refused` for a backup that is full already, `damaged` where a link is not what it must be,
 *   `key` where it is encrypted and no key fits, `busy` while a backup runs
 */
export async function consolidate(
  request: ConsolidationRequest,
  context: ConsolidationContext,
): Promise<Consolidation> {
  const { repository, events, now } = context
  const { storage } = repository
  const { cluster } = request
  const newest = await recordOf(storage, cluster, request.id)
  const id = synthId(newest.id)
  const chain = await readChain(storage, newest)
  const outcome = { id, links: chain.map((link) => ({ id: link.id, storedBytes: link.storedBytes })) }
  const earlier = await readBackupRecord(storage, cluster, id)
  if (earlier) return { ...outcome, record: earlier, wasThere: true }
  if (request.dryRun) return { ...outcome, record: undefined, wasThere: false }
  const onWarning = (text: string) => events.emit('warning', { text })
  await using lock = await acquireLock(storage, cluster, {
    purpose: 'consolidation',
    now,
    signal: context.signal,
    onWarning,
  })
  const signal = AbortSignal.any([context.signal, lock.lost])
  const onLeft = (text: string) => events.emit('detail', { text })
  await removeDebris(storage, cluster, id, onLeft)
  try {
    const draft = await putTogether(id, chain, request, { ...context, signal })
    const whole = await storeRestoreText(storage, backupPrefix(cluster, id), draft)
    await requireAsWritten(whole, request.jobs, { ...context, signal })
    await lockNeeded(repository, whole, now(), signal)
    signal.throwIfAborted()
    await lock.confirm()
    const record = await storeRecord(storage, backupPrefix(cluster, id), whole, now())
    await updateCatalog(storage, cluster, now()).catch((error) =>
      onWarning(`the catalog could not be written: ${reasonOf(error)}`),
    )
    return { ...outcome, record, wasThere: false }
  } catch (error) {
    const reason = signal.aborted ? signal.reason : error
    // Whoever took the lock from us may have begun the same.
    if (!lock.lost.aborted) await removeDebris(storage, cluster, id, onLeft).catch(() => {})
    throw reason
  }
}

async function recordOf(storage: Storage, cluster: string, asked: string | undefined): Promise<BackupRecord> {
  const id = asked ?? (await newestBackup(storage, cluster))
  const record = id === undefined ? undefined : await readBackupRecord(storage, cluster, id)
  if (!record) {
    throw new PgrecallError(
      'absent',
      id === undefined ? `cluster "${cluster}" has no backup yet` : `there is no backup ${id}`,
      { hint: '"pgrecall list" shows the backups that there are' },
    )
  }
  if (record.parent) return record
  throw new PgrecallError('refused', `backup ${record.id} is a full one already`, {
    hint: 'name the newest incremental backup of a chain: "pgrecall list" shows them',
  })
}

/** Writes all objects of the new backup but RESTORE.txt. @returns what is to be recorded */
async function putTogether(
  id: string,
  chain: readonly BackupRecord[],
  { cluster, jobs, tool }: ConsolidationRequest,
  { repository, events, signal, now }: ConsolidationContext,
): Promise<BackupDraft> {
  const startedAt = now().toISOString()
  const newest = chain.at(-1)!
  events.emit('step', { text: `Reading what the ${chain.length} links of ${newest.id} hold` })
  const reconstruction = await reconstructionOf(chain, repository, signal)
  const codec = parseCodec(newest.codec)
  if (typeof codec === 'string')
    throw new PgrecallError('damaged', `the record of ${newest.id} has the codec ${newest.codec}`)
  let failure: unknown
  const store = new BackupStore([repository], backupPrefix(cluster, id), {
    indexRecipient: undefined,
    onLost: (_, error) => {
      failure = error
    },
  })
  const request = { codec }
  const shards = await rewriteShards(reconstruction, newest, {
    store,
    codec,
    jobs,
    repository,
    events,
    signal,
  })
  const wal = await copyWal(newest, id, repository.storage)
  const {
    parent: _parent,
    increment: _increment,
    clusterBytes: _bytes,
    recipients: _recipients,
    ...kept
  } = newest
  const manifest = await storeManifest(
    { store, request, indexIdentities: [] },
    {
      shards,
      facts: {
        systemIdentifier: newest.systemIdentifier,
        majorVersion: Math.floor(newest.postgres.version / 10_000),
      },
      ends: {
        timeline: newest.timeline,
        start: { lsn: lsn(newest.start.lsn) },
        stop: { lsn: lsn(newest.stop.lsn) },
        label: '',
      },
    },
  )
  if (failure !== undefined) throw failure
  const bytesIn = (group?: string) =>
    shards
      .filter((shard) => group === undefined || shard.group === group)
      .reduce((sum, { fileBytes }) => sum + fileBytes, 0)
  const { sealer } = repository.keys
  return {
    ...kept,
    id,
    type: 'full',
    consolidatedFrom: chain.map((link) => link.id),
    tablespaces: newest.tablespaces.map((space) => ({ ...space, bytes: bytesIn(space.oid) })),
    ...(sealer && { recipients: [...sealer.recipients] }),
    files: shards.reduce((sum, shard) => sum + shard.files, 0),
    dataBytes: bytesIn(),
    resumedBytes: 0,
    startedAt,
    tool,
    objects: [
      ...shards.flatMap((shard: StoredShard) => objectsOfShard(shard, repository.name)),
      ...wal,
      { ...manifest.stored[repository.name]!, kind: 'manifest' },
    ],
  }
}

/** The WAL of a standalone backup goes along as it is stored. */
async function copyWal(
  { cluster, id, objects }: BackupRecord,
  to: string,
  storage: Storage,
): Promise<BackupObject[]> {
  const wal = objects.filter(({ group }) => group === 'wal')
  for (const { name } of wal) {
    const content = await storage.get(backupPrefix(cluster, id) + name)
    if (!content) throw new PgrecallError('damaged', `${backupPrefix(cluster, id)}${name} is missing`)
    await storage.put(backupPrefix(cluster, to) + name, content, { immutable: true, lockedLater: true })
  }
  return wal
}

/** Reads every object again. @throws PgrecallError `damaged` where one is not what was written */
async function requireAsWritten(
  { cluster, id, objects }: BackupDraft,
  jobs: number,
  { repository: { storage }, events, signal }: ConsolidationContext,
): Promise<void> {
  events.emit('step', { text: `Reading ${id} once more` })
  await sideBySide(objects, jobs, async (object) => {
    signal.throwIfAborted()
    const key = backupPrefix(cluster, id) + object.name
    const sum = new ObjectSum(isSealed(object.name))
    for await (const chunk of (await storage.get(key, { signal })) ?? []) sum.push(chunk)
    if (isAsRecorded(object, sum.end())) return
    throw new PgrecallError('damaged', `${storage.location}/${key} is not what was written`, {
      hint: 'look for a failing disk or store, and run this again; the chain is as it was',
    })
  })
}

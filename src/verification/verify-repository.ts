import { type BackupRecord, readBackupRecord } from '../catalog/backup-record.ts'
import { loadCatalog } from '../catalog/catalog.ts'
import { brokenText, Chains } from '../catalog/chains.ts'
import { backupRecordKey, isLogicalId, isPhysicalId } from '../catalog/layout.ts'
import { type LogicalRecord, readLogicalRecord } from '../catalog/logical-record.ts'
import { pinIfAllowed } from '../catalog/pin.ts'
import { objectsOf, readObjects } from '../catalog/read-objects.ts'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import type { Environment } from '../postgres/client-programs.ts'
import { sideBySide } from '../side-by-side.ts'
import { verifyDumps } from './verify-dumps.ts'
import { verifyWalFile, walNamesOf } from './verify-wal.ts'

export interface VerifyRequest {
  cluster: string
  /**
   * Ids of backups, to which all is added that they build upon; all when there are none. `latest` is the newest physical one,
   * and a logical one where there is no other.
   */
  ids: readonly string[]
  /** How many objects are read side by side. */
  jobs: number
}

export interface VerifyContext {
  /** Where `pg_restore` is found. */
  env: Environment
  events: Events
  signal: AbortSignal
  now: () => Date
}

/** What is wrong with one object. */
export interface Fault {
  key: string
  reason: string
}

/** What came of looking at one backup: it is sound where there are no faults. */
export interface VerifiedBackup {
  id: string
  /** Objects and bytes that were read, WAL included. */
  objects: number
  bytes: number
  faults: Fault[]
  /** WAL files that are encrypted for a key that this host has not: only that all of their bytes are there was seen. */
  sizeOnly: number
  /** Of a logical backup: why `pg_restore` did not look at its archives. */
  unlisted?: string
}

/**
 * Reads backups, and the WAL from their start to their stop, and compares every stored byte with the sum that was recorded.
 * A backup is not sound without what it builds upon, a logical one not without archives that `pg_restore` can read. Needs no secret key for the backups themselves. Changes nothing but a
 * pin, so that retention leaves alone what is read.
 * @throws PgrecallError `absent` for an id that is not there, `repository` when there is no answer
 */
export async function verifyRepository(
  repository: Repository,
  request: VerifyRequest,
  context: VerifyContext,
): Promise<VerifiedBackup[]> {
  const results: VerifiedBackup[] = []
  for (const { id, missing } of await chosen(repository, request)) {
    context.signal.throwIfAborted()
    const result = await verifyBackup(repository, request, id, context)
    if (missing !== undefined)
      result.faults.push({ key: backupRecordKey(request.cluster, id), reason: `it ${brokenText(missing)}` })
    results.push(result)
  }
  return results
}

/** A backup to be looked at. */
interface Chosen {
  id: string
  /** The link that its chain lacks; undefined where none does. */
  missing: string | undefined
}

/** Oldest first, each once. */
async function chosen({ name, storage }: Repository, { cluster, ids }: VerifyRequest): Promise<Chosen[]> {
  const { backups, logical, damaged } = await loadCatalog(storage, cluster, { fresh: true })
  const chains = new Chains(backups)
  const known = [...backups, ...logical, ...damaged].toSorted((a, b) => (a.id < b.id ? -1 : 1))
  const wanted = new Set(
    ids.length === 0
      ? known
      : ids.map((asked) => {
          const found = asked === 'latest' ? newestOf(known) : known.find(({ id }) => id === asked)
          if (found) return found
          throw new PgrecallError('absent', `there is no backup ${asked} in repository "${name}"`, {
            hint: '"pgrecall list" shows the backups that there are',
          })
        }),
  )
  for (const backup of backups.filter((candidate) => wanted.has(candidate)))
    for (const below of chains.ancestorsOf(backup)) wanted.add(below)
  const missing = new Map(backups.map((backup) => [backup.id, chains.missingOf(backup)]))
  return known.filter((backup) => wanted.has(backup)).map(({ id }) => ({ id, missing: missing.get(id) }))
}

/** A dump is one only where there is nothing to recover with. */
const newestOf = <Backup extends { id: string }>(known: readonly Backup[]) =>
  known.findLast(({ id }) => isPhysicalId(id)) ?? known.at(-1)

async function verifyBackup(
  repository: Repository,
  { cluster, jobs }: VerifyRequest,
  id: string,
  context: VerifyContext,
): Promise<VerifiedBackup> {
  const result: VerifiedBackup = { id, objects: 0, bytes: 0, faults: [], sizeOnly: 0 }
  const record = await recordOf(repository, cluster, id, result)
  if (!record) return result
  const onUnpinned = (text: string) => context.events.emit('detail', { text })
  await using _pin = await pinIfAllowed(repository.storage, cluster, id, 'verify', context.now, onUnpinned)
  const onFault = (key: string, reason: string) => void result.faults.push({ key, reason })
  const { env, events, signal } = context
  result.bytes = await readObjects(objectsOf(record), {
    repository,
    jobs,
    task: `Reading ${id}`,
    events,
    signal,
    onFault,
  })
  result.objects = record.objects.length
  if (record.method === 'logical') {
    // What is damaged is a fault already.
    const isSound = result.faults.length === 0
    const unlisted = isSound && (await verifyDumps(repository, record, { env, jobs, signal, onFault }))
    if (unlisted) result.unlisted = unlisted
  } else {
    await sideBySide(walNamesOf(record), jobs, async (name) => {
      const { key, bytes, reason, isSizeOnly } = await verifyWalFile(repository, cluster, name, signal)
      result.objects++
      result.bytes += bytes
      if (isSizeOnly) result.sizeOnly++
      if (reason !== undefined) onFault(key, reason)
    })
  }
  result.faults.sort((a, b) => (a.key < b.key ? -1 : 1))
  return result
}

/** A record that cannot be believed is a fault of its backup. */
async function recordOf(
  { storage }: Repository,
  cluster: string,
  id: string,
  result: VerifiedBackup,
): Promise<BackupRecord | LogicalRecord | undefined> {
  const key = backupRecordKey(cluster, id)
  try {
    const record = isLogicalId(id)
      ? await readLogicalRecord(storage, cluster, id)
      : await readBackupRecord(storage, cluster, id)
    if (!record) result.faults.push({ key, reason: 'it was removed meanwhile' })
    return record
  } catch (error) {
    if (!(error instanceof PgrecallError) || error.kind !== 'damaged') throw error
    result.faults.push({ key, reason: reasonOf(error) })
    return undefined
  }
}

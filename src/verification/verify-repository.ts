import { type BackupRecord, readBackupRecord } from '../catalog/backup-record.ts'
import { loadCatalog } from '../catalog/catalog.ts'
import { brokenText, Chains } from '../catalog/chains.ts'
import { backupPrefix, backupRecordKey, isLogicalId, isPhysicalId } from '../catalog/layout.ts'
import {
  isWhole,
  type LogicalRecord,
  type LogicalSummary,
  readLogicalRecord,
} from '../catalog/logical-record.ts'
import { pinIfAllowed } from '../catalog/pin.ts'
import { objectsOf, readObjects } from '../catalog/read-objects.ts'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import type { Environment } from '../postgres/client-programs.ts'
import { sideBySide } from '../side-by-side.ts'
import { planScratch } from './open-scratch.ts'
import { faultsIn, type RestoreProof } from './restore-proof.ts'
import { verifyDumps } from './verify-dumps.ts'
import { verifyRestore } from './verify-restore.ts'
import { verifyWalFile, walNamesOf } from './verify-wal.ts'

export interface VerifyRequest {
  cluster: string
  /**
   * Ids of backups, to which all is added that they build upon; all when there are none. `latest` is the newest physical one,
   * and a logical one where there is no other.
   */
  ids: readonly string[]
  /** How many objects are read side by side, and how many databases are loaded so. */
  jobs: number
  /**
   * Loads the chosen backups into a scratch server, too: of all, the newest logical one of the whole cluster, which is then what
   * `latest` means, with newer ones whose record is damaged. The folder in which the server lives.
   */
  scratch?: string | undefined
}

export interface VerifyContext {
  /** Where PostgreSQL's programs are found. */
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
  /** What came of loading it; what is not as it must be is among the faults. Not of one that has others. */
  restore?: RestoreProof
}

/**
 * Reads backups, and the WAL from their start to their stop, and compares every stored byte with the sum that was recorded.
 * A backup is not sound without what it builds upon, a logical one not without archives that `pg_restore` can read. Needs no
 * secret key for the backups themselves. Changes nothing but a pin, so that retention leaves alone what is read.
 * @throws PgrecallError `absent` for an id that is not there, `repository` when there is no answer; where something is to be
 *   loaded, `usage` for a physical backup, and as `planScratch` and `verifyRestore`
 */
export async function verifyRepository(
  repository: Repository,
  request: VerifyRequest,
  context: VerifyContext,
): Promise<VerifiedBackup[]> {
  const results: VerifiedBackup[] = []
  const all = await chosen(repository, request)
  await requireLoadable(repository, request, all, context)
  for (const each of all) {
    context.signal.throwIfAborted()
    const result = await verifyBackup(repository, request, each, context)
    if (each.missing !== undefined) {
      const key = backupRecordKey(request.cluster, each.id)
      result.faults.push({ key, reason: `it ${brokenText(each.missing)}` })
    }
    results.push(result)
  }
  return results
}

/** A backup to be looked at. */
interface Chosen {
  id: string
  /** The link that its chain lacks; undefined where none does. */
  missing: string | undefined
  /** Whether it is loaded, too. */
  isLoaded: boolean
}

/** Oldest first, each once. */
async function chosen({ name, storage }: Repository, request: VerifyRequest): Promise<Chosen[]> {
  const { cluster, ids, scratch } = request
  const { backups, logical, damaged } = await loadCatalog(storage, cluster, { fresh: true })
  const chains = new Chains(backups)
  const known = [...backups, ...logical, ...damaged].toSorted((a, b) => (a.id < b.id ? -1 : 1))
  const newest = () => newestWhole(logical, damaged, name)
  const wanted = new Set(
    ids.length === 0
      ? known
      : ids.flatMap((asked) => {
          if (asked === 'latest' && scratch !== undefined) return newest()
          const found = asked === 'latest' ? newestOf(known) : known.find(({ id }) => id === asked)
          if (found) return [found]
          throw new PgrecallError('absent', `there is no backup ${asked} in repository "${name}"`, {
            hint: '"pgrecall list" shows the backups that there are',
          })
        }),
  )
  const loaded = scratch === undefined ? [] : ids.length === 0 ? newest() : [...wanted]
  for (const { id } of loaded) requireLogical(id)
  for (const backup of backups.filter((candidate) => wanted.has(candidate)))
    for (const below of chains.ancestorsOf(backup)) wanted.add(below)
  const missing = new Map(backups.map((backup) => [backup.id, chains.missingOf(backup)]))
  return known
    .filter((backup) => wanted.has(backup))
    .map((backup) => ({
      id: backup.id,
      missing: missing.get(backup.id),
      isLoaded: loaded.includes(backup),
    }))
}

/** A dump is one only where there is nothing to recover with. */
const newestOf = <Backup extends { id: string }>(known: readonly Backup[]) =>
  known.findLast(({ id }) => isPhysicalId(id)) ?? known.at(-1)

/**
 * The newest of the whole cluster, and newer ones with a damaged record, of which nobody knows what they have: without them the
 * older one would be taken for the last.
 */
function newestWhole(
  logical: readonly LogicalSummary[],
  damaged: readonly { id: string }[],
  repository: string,
): { id: string }[] {
  const whole = logical.filter(isWhole).toSorted((a, b) => (a.id < b.id ? 1 : -1))[0]
  const isNewer = ({ id }: { id: string }) => isLogicalId(id) && (whole === undefined || id > whole.id)
  const newest = [...(whole ? [whole] : []), ...damaged.filter(isNewer)]
  if (newest.length > 0) return newest
  throw new PgrecallError('absent', `repository "${repository}" has no logical backup of the whole cluster`, {
    hint: '"pgrecall backup --method logical" takes one; name one of a part by its id',
  })
}

function requireLogical(id: string): void {
  if (isLogicalId(id)) return
  throw new PgrecallError('usage', `--restore is for logical backups, and ${id} is a physical one`, {
    hint: 'name logical ones, or leave --restore out',
  })
}

/** What hinders a restore here is told before hours of reading. */
async function requireLoadable(
  repository: Repository,
  { cluster, scratch }: VerifyRequest,
  all: readonly Chosen[],
  { env }: VerifyContext,
): Promise<void> {
  if (scratch === undefined) return
  for (const { id } of all.filter(({ isLoaded }) => isLoaded)) {
    const record = await readLogicalRecord(repository.storage, cluster, id).catch(unlessDamaged)
    if (record) await planScratch(record, scratch, env)
  }
}

/** What is damaged is a fault, which is told when it is read. */
function unlessDamaged(error: unknown): undefined {
  if (!(error instanceof PgrecallError) || error.kind !== 'damaged') throw error
}

async function verifyBackup(
  repository: Repository,
  { cluster, jobs, scratch }: VerifyRequest,
  { id, isLoaded }: Chosen,
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
    if (isLoaded && result.faults.length === 0) {
      result.restore = await verifyRestore(repository, record, { ...context, place: scratch!, jobs })
      for (const reason of faultsIn(result.restore)) onFault(backupPrefix(cluster, id), reason)
    }
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

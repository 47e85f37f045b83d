import type { BackupRecord } from '../catalog/backup-record.ts'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError } from '../errors.ts'
import type { Events } from '../events.ts'
import { storeManifest } from './closing-objects.ts'
import { commitRun } from './commit-run.ts'
import { Destinations } from './destinations.ts'
import { type BackupBasis, findParent, fullInstead } from './find-parent.ts'
import { isWorthless, leaveRun } from './leave-run.ts'
import type { BackupMethod, BackupRequest, BackupRun, Preflight, Taken } from './method.ts'
import { openRun } from './open-run.ts'
import { type BackupOutcome, failuresOf, type StoredRecord, tellOutcome } from './outcome.ts'
import { requireOwnWal } from './own-bytes.ts'
import { requireSpace } from './preflight.ts'
import { UnfitParent } from './unfit-parent.ts'

export interface BackupContext {
  repositories: readonly Repository[]
  /** As in CommandContext. */
  makeIfNew: (repository: Repository) => Promise<void>
  events: Events
  signal: AbortSignal
  now: () => Date
}

/**
 * Takes a backup of a cluster, by any method, into all of its repositories at once: the cluster is read once.
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
): Promise<BackupOutcome<BackupRecord>> {
  const { repositories, events } = context
  const known = await method.check(request)
  await using destinations = await Destinations.open(repositories, request.cluster, known.facts, context)
  const signals = [context.signal, destinations.lost, ...(method.lost ? [method.lost] : [])]
  const signal = AbortSignal.any(signals)
  const basis = await findParent(request, method, known.facts, destinations, { events, signal })
  const attempt = async (upon: BackupBasis) => {
    const run = await openRun(request, method, upon, destinations, { ...context, signal })
    const warnings = [...known.warnings, ...upon.warnings]
    const work = takeAndCommit(run, method, { ...known, warnings }, destinations, context.now)
    return { run, records: await work.catch((error) => giveUp(run, error)) }
  }
  const giveUp = async (run: BackupRun, error: unknown): Promise<never> => {
    // What fails in consequence of a signal, or of a lost session or lock, is told as that.
    const reason = signal.aborted ? signal.reason : error
    const mayKeep = method.resumes && request.resume && run.type === 'full' && !isWorthless(reason)
    for (const destination of destinations.opened) await leaveRun(run, destination, { mayKeep })
    throw reason
  }
  const { run, records } = await attempt(basis).catch((error) => {
    if (!(error instanceof UnfitParent)) throw error
    return attempt(fullInstead(request, error.reason, events))
  })
  const failures = failuresOf(repositories, destinations, records)
  for (const destination of destinations.opened) {
    const isWithout = failures.some(({ repository }) => repository === destination.repository.name)
    // Nothing is kept there: what goes on from it would be another backup under the id of this one.
    if (isWithout) await leaveRun(run, destination, { mayKeep: false })
  }
  await tellOutcome(request.cluster, destinations, records, context)
  return { records, failures }
}

/** The backup itself, from the first byte to the records. */
async function takeAndCommit(
  run: BackupRun,
  method: BackupMethod,
  known: Preflight,
  destinations: Destinations,
  now: () => Date,
): Promise<StoredRecord<BackupRecord>[]> {
  const { request, store } = run
  await requireRoom(run, destinations, known)
  const startedAt = now()
  const taken = await method.take(run)
  requireSoundPages(request, taken)
  const manifest = await storeManifest(run, taken)
  if (!request.standalone) {
    await method.awaitWal(run, taken)
    if (isOnHost(method)) await store.each((repository) => requireOwnWal(run, taken, repository))
  }
  const facts = { method: method.name, startedAt, taken, warnings: known.warnings }
  return commitRun(run, destinations, facts, manifest, now)
}

/** A repository in which it will not fit is given up before anything is copied. */
async function requireRoom(run: BackupRun, destinations: Destinations, { bytes }: Preflight): Promise<void> {
  const { request, kept, store } = run
  // How much has changed is not known yet.
  if (run.parent) return
  await store.each(async (repository) => {
    const { catalog } = destinations.of(repository)
    const compresses = request.codec.method !== 'none'
    await requireSpace(repository.storage, bytes - kept.offeredBytes, catalog.backups.at(-1), compresses)
  })
}

/** The data directory of a `stream` backup may be on another host. */
const isOnHost = ({ name }: BackupMethod) => name !== 'stream'

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

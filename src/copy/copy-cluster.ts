import type { BackupSummary } from '../catalog/backup-record.ts'
import { updateCatalog } from '../catalog/catalog.ts'
import { type ClusterIdentity, claimIdentity, readIdentity } from '../catalog/identity.ts'
import { acquireLock, type Lock } from '../catalog/lock.ts'
import { pinIfAllowed } from '../catalog/pin.ts'
import type { Repository } from '../catalog/repository.ts'
import { noteThinnedWal } from '../catalog/thinned-wal.ts'
import { segmentNumberOf } from '../catalog/wal-ranges.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { numberOf } from '../postgres/wal-file.ts'
import { sideBySide } from '../side-by-side.ts'
import { copyBackup } from './copy-backup.ts'
import { copyLogical } from './copy-logical.ts'
import { copyWalFile, requireOneArchive } from './copy-wal.ts'
import { compareWal, storedBackupsIn } from './look.ts'
import { type Passage, spoilsOneThing } from './passage.ts'
import { type CopyPlan, type CopyRequest, type CopyStep, planCopy, type StoredWal } from './plan.ts'

const TASK = 'copy'
/** Plain WAL that is held at once; never less than one segment. */
const WAL_IN_MEMORY = 256 * 1024 * 1024

export interface CopyJob extends CopyRequest {
  cluster: string
  from: Repository
  to: Repository
  /** How many objects are copied side by side. */
  jobs: number
  /** zstd's, for WAL that is stored in another form than it had. */
  level: number
}

export interface CopyContext {
  /** Makes a repository that is not there yet, where that is allowed. */
  makeIfNew: (repository: Repository) => Promise<void>
  events: Events
  signal: AbortSignal
  now: () => Date
}

export interface CopyResult {
  plan: CopyPlan
  backups: { id: string; storedBytes: number; resumedBytes: number }[]
  /** Files of `pg_wal`, and their stored bytes. */
  walFiles: number
  walBytes: number
  /** What could not be copied, because it is damaged or went away. */
  failures: { what: string; error: PgrecallError }[]
}

/** What a run would do now. Takes no lock and changes nothing. @throws as `copyCluster` does, as far as looking tells */
export async function previewCopy(job: CopyJob, context: CopyContext): Promise<CopyPlan> {
  const identity = await sourceIdentity(job)
  // Compares only, where there is one already.
  if (await readIdentity(job.to.storage, job.cluster)) {
    await claimIdentity(job.to.storage, job.cluster, identity)
  }
  return look(job, identity, context)
}

/**
 * Copies what the destination lacks of one cluster's backups and WAL. What is damaged in the source is left out, and the rest is
 * copied. May be stopped at any moment, and goes on when it is run again.
 *
 * @throws PgrecallError `absent` when the source has nothing of the cluster, or not the backup that is asked for; `conflict` when
 *   the two are of different clusters or of servers that went different ways; `busy` while something else writes to the
 *   destination; `key` when something has to be decrypted and this host cannot
 */
export async function copyCluster(job: CopyJob, context: CopyContext): Promise<CopyResult> {
  const { cluster, from, to } = job
  const { events, now } = context
  const identity = await sourceIdentity(job)
  await context.makeIfNew(to)
  const onWarning = (text: string) => events.emit('warning', { text })
  await using lock = await acquireLock(to.storage, cluster, {
    purpose: TASK,
    now,
    signal: context.signal,
    onWarning,
  })
  const signal = AbortSignal.any([context.signal, lock.lost])
  try {
    await claimIdentity(to.storage, cluster, identity)
    await to.storage.sweep()
    const plan = await look(job, identity, { ...context, signal })
    for (const text of plan.warnings) onWarning(text)
    await using pins = new AsyncDisposableStack()
    for (const id of await toBePinned(plan, job))
      pins.use(await pinIfAllowed(from.storage, cluster, id, `copy to ${to.name}`, now, onWarning))
    await noteThinnedWal(to.storage, cluster, plan.thinned)
    return await new CopyRun(job, plan, lock, { ...context, signal }, identity).run()
  } catch (error) {
    signal.throwIfAborted()
    throw error
  }
}

async function sourceIdentity({ cluster, from }: CopyJob): Promise<ClusterIdentity> {
  const identity = await readIdentity(from.storage, cluster)
  if (identity) return identity
  throw new PgrecallError(
    'absent',
    `repository "${from.name}" at ${from.storage.location} holds nothing of cluster "${cluster}"`,
    { hint: 'is the folder mounted, and is it the repository that the backups go to?' },
  )
}

async function look(
  job: CopyJob,
  { walSegmentBytes }: ClusterIdentity,
  { signal }: CopyContext,
): Promise<CopyPlan> {
  const { from, to, cluster } = job
  const source = await storedBackupsIn(from, cluster)
  const destination = await storedBackupsIn(to, cluster)
  return planCopy(source, destination, await compareWal(from, to, cluster, signal), walSegmentBytes, job)
}

/** Retention keeps a pinned backup, and all WAL from there on. */
async function toBePinned({ steps }: CopyPlan, { from, cluster }: CopyJob): Promise<string[]> {
  const idsOf = (kind: 'backup' | 'logical') =>
    steps.flatMap((step) => (step.kind === kind ? [step.backup.id] : []))
  const [physical, logical] = [idsOf('backup'), idsOf('logical')]
  if (physical.length > 0 || !steps.some(({ kind }) => kind === 'wal')) return [...physical, ...logical]
  const { backups } = await storedBackupsIn(from, cluster)
  return [...backups.slice(0, 1).map(({ id }) => id), ...logical]
}

class CopyRun {
  readonly #job: CopyJob
  readonly #plan: CopyPlan
  readonly #lock: Lock
  readonly #context: CopyContext
  readonly #segmentBytes: number
  readonly #passage: Passage
  readonly #result: CopyResult
  readonly #failedWal: StoredWal[] = []
  readonly #failedBackups = new Set<string>()
  readonly #totalBytes: number
  #bytes = 0

  constructor(
    job: CopyJob,
    plan: CopyPlan,
    lock: Lock,
    context: CopyContext,
    { walSegmentBytes }: ClusterIdentity,
  ) {
    this.#job = job
    this.#plan = plan
    this.#lock = lock
    this.#context = context
    this.#segmentBytes = walSegmentBytes
    this.#result = { plan, backups: [], walFiles: 0, walBytes: 0, failures: [] }
    this.#totalBytes = plan.steps.reduce((sum, step) => sum + storedBytesOf(step), 0)
    this.#passage = { ...job, signal: context.signal, onBytes: (bytes) => this.#report(bytes) }
  }

  async run(): Promise<CopyResult> {
    const { cluster, to } = this.#job
    const { signal, events, now } = this.#context
    for (const wal of this.#plan.common)
      await this.#unlessSpoilt(wal.file.name, () => requireOneArchive(this.#passage, wal))
    for (const step of this.#plan.steps) {
      signal.throwIfAborted()
      await this.#do(step)
    }
    if (this.#plan.steps.length > 0) events.emit('progressEnd', { task: TASK })
    for (const each of [...this.#plan.backups, ...this.#plan.logical])
      if (each.verdict === 'left')
        this.#fail(`backup ${each.backup.id}`, new PgrecallError('damaged', each.reason))
    await updateCatalog(to.storage, cluster, now())
    return this.#result
  }

  #do(step: CopyStep): Promise<void> {
    if (step.kind === 'wal') return this.#copyWal(step)
    return step.kind === 'backup' ? this.#copyBackup(step) : this.#copyLogical(step)
  }

  async #copyLogical({ backup: { id } }: Extract<CopyStep, { kind: 'logical' }>): Promise<void> {
    await this.#unlessSpoilt(`backup ${id}`, async () => {
      this.#context.events.emit('step', { text: `Copying backup ${id}` })
      const { record, resumedBytes } = await copyLogical(this.#passage, id, this.#lock)
      this.#result.backups.push({ id, storedBytes: record.storedBytes, resumedBytes })
    })
  }

  async #copyBackup({ backup }: Extract<CopyStep, { kind: 'backup' }>): Promise<void> {
    const { id } = backup
    const isDone = await this.#unlessSpoilt(`backup ${id}`, async () => {
      this.#requireOwnWal(backup)
      this.#requireParent(backup)
      this.#context.events.emit('step', { text: `Copying backup ${id}` })
      const { record, resumedBytes } = await copyBackup(this.#passage, id, this.#lock)
      this.#result.backups.push({ id, storedBytes: record.storedBytes, resumedBytes })
    })
    if (!isDone) this.#failedBackups.add(id)
  }

  /** Histories first: WAL of a timeline without one leads nowhere. */
  async #copyWal({ files }: Extract<CopyStep, { kind: 'wal' }>): Promise<void> {
    const { events, signal } = this.#context
    const jobs = Math.min(this.#job.jobs, Math.max(1, Math.floor(WAL_IN_MEMORY / this.#segmentBytes)))
    events.emit('step', { text: `Copying WAL: ${files.length} ${files.length === 1 ? 'file' : 'files'}` })
    const isHistory = ({ file }: StoredWal) => file.kind === 'history'
    const copy = async (wal: StoredWal) => {
      signal.throwIfAborted()
      await this.#copyWalFile(wal)
    }
    await sideBySide(files.filter(isHistory), jobs, copy)
    const others = files.filter((wal) => !isHistory(wal))
    await sideBySide(others, jobs, copy)
  }

  async #copyWalFile(wal: StoredWal): Promise<void> {
    const isDone = await this.#unlessSpoilt(wal.file.name, async () => {
      if ((await copyWalFile(this.#passage, wal)) === 'exists') return
      this.#result.walFiles++
      this.#result.walBytes += wal.bytes
    })
    if (!isDone) this.#failedWal.push(wal)
  }

  /** @throws PgrecallError `damaged` when a file between a backup's start and stop could not be copied */
  #requireOwnWal({ timeline, standalone, start, stop }: BackupSummary): void {
    if (standalone) return
    const [first, last] = [start, stop].map(({ walFile }) => segmentNumberOf(walFile, this.#segmentBytes))
    const lost = this.#failedWal.find(({ file }) => {
      if (file.kind === 'history') return file.timeline === timeline
      const number = numberOf(file, this.#segmentBytes)
      return file.kind === 'segment' && first! <= number && number <= last!
    })
    if (lost) throw new PgrecallError('damaged', `${lost.file.name}, which it needs, could not be copied`)
  }

  /** @throws PgrecallError `damaged` when that upon which a backup builds could not be copied */
  #requireParent({ parent }: BackupSummary): void {
    if (parent && this.#failedBackups.has(parent.id))
      throw new PgrecallError('damaged', `${parent.id}, upon which it builds, could not be copied`)
  }

  async #unlessSpoilt(what: string, work: () => Promise<unknown>): Promise<boolean> {
    try {
      await work()
      return true
    } catch (error) {
      this.#context.signal.throwIfAborted()
      if (!spoilsOneThing(error)) throw error
      this.#context.events.emit('warning', { text: `${what}: ${reasonOf(error)}` })
      this.#fail(what, error)
      return false
    }
  }

  #fail(what: string, error: PgrecallError): void {
    this.#result.failures.push({ what, error })
  }

  #report(bytes: number): void {
    this.#bytes += bytes
    this.#context.events.emit('progress', {
      task: TASK,
      bytes: this.#bytes,
      total: this.#totalBytes,
      items: this.#result.walFiles + this.#result.backups.length,
    })
  }
}

function storedBytesOf(step: CopyStep): number {
  return step.kind === 'wal' ? step.files.reduce((sum, { bytes }) => sum + bytes, 0) : step.backup.storedBytes
}

import { backupPrefix } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { rememberRestore } from '../catalog/verification-file.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import type { Environment } from '../postgres/client-programs.ts'
import type { Damage, FoundDamage } from './damage.ts'
import { explainAll } from './explain.ts'
import { FoundFaults } from './found-faults.ts'
import { planScratch } from './open-scratch.ts'
import { systemIdentifierOf } from './own-identity.ts'
import { planReading, type ReadingPlan, type Share } from './plan-reading.ts'
import { readSideBySide } from './read-side-by-side.ts'
import { readingsOf } from './readings.ts'
import { dropRemoved } from './removed-meanwhile.ts'
import { type RepairReport, repairAll } from './repair-all.ts'
import { faultsIn } from './restore-proof.ts'
import { type Stock, takeStock } from './stock.ts'
import { readAnyRecord, Twins } from './twin.ts'
import type { VerifiedRepository } from './verified.ts'
import { verifyDumps } from './verify-dumps.ts'
import { verifyIdentity } from './verify-identity.ts'
import { verifyOthers } from './verify-others.ts'
import { verifyRestore } from './verify-restore.ts'
import { requireSameFiles } from './whole-manifest.ts'

export type { VerifiedBackup, VerifiedRepository } from './verified.ts'

export interface VerifyRequest {
  cluster: string
  /**
   * Ids of backups, to which all is added that they build upon; all when there are none. `latest` is the newest physical one,
   * and a logical one where there is no other.
   */
  ids: readonly string[]
  /** How many objects are read side by side, and how many databases are loaded so. */
  jobs: number
  /** Whether what is stored is taken apart, too: members, pages, records. Needs the secret key of what is encrypted. */
  decode?: boolean
  /** Reads only such a part of all bytes, 0 to 1: what was read longest ago. */
  fraction?: number | undefined
  /** Whether damaged objects are healed from the other repositories. */
  repair?: boolean
  /** The other repositories of the cluster, in the order in which they are asked for a copy. */
  others?: readonly Repository[]
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

/** What was interrupted so long ago is begun anew. */
const RESUMED_WITHIN_MS = 24 * 60 * 60 * 1000

/**
 * Reads what is stored of a cluster, all or a part, and compares every byte with the sum that was recorded; says of what is damaged
 * what it costs and where another copy is, and heals it from there if that is asked for. A backup is not sound without what it builds
 * upon, a logical one not without archives that `pg_restore` can read. Needs no secret key for the backups themselves. Remembers in the
 * repository what was read; otherwise it changes nothing but pins, unless it heals.
 * @throws PgrecallError `absent` for an id that is not there, `repository` when there is no answer; where something is to be
 *   loaded, `usage` for a physical backup, and as `planScratch` and `verifyRestore`
 */
export async function verifyRepository(
  repository: Repository,
  request: VerifyRequest,
  context: VerifyContext,
): Promise<VerifiedRepository> {
  const twins = new Twins(request.cluster, request.others ?? [])
  const first = await verifyIdentity(repository, request.cluster)
  const begun = await healFirst(repository, request, context, twins, first)
  if (begun.isBlocked) return onlyDamage(begun.damaged)
  const { decode = false, ids, scratch, cluster } = request
  const { events, signal, now } = context
  const stockRequest = { cluster, ids, isLoading: scratch !== undefined, decode }
  const stock = await takeStock(repository, stockRequest, context)
  await requireLoadable(repository, request, stock, context)
  await twins.keepOwn(systemIdentifierOf(stock.catalog))
  const share = shareOf(request, stock, context.now())
  const plan = planReading(stock.objects, stock.spans, share)
  const found = new FoundFaults(cluster, stock, plan, context, {
    ...(stock.isAll &&
      request.fraction === undefined && { unfinished: { since: sinceOf(share, context.now()), decode } }),
  })
  await readPlanned(repository, stock, plan, found, request, context)
  await verifyOthers(repository, stock, found, context.signal)
  if (decode) await requireSameFiles(repository, stock, found, context.signal)
  await verifyLogical(repository, stock, found, request, context)
  await dropRemoved(repository, stock, found, context.signal)
  // Whatever comes of a repair, what was found stays known.
  await found.remember()
  let damaged = await explainAll(repository, stock, found.damages(), twins)
  if (request.repair && damaged.length > 0) {
    const report = await repairAll(repository, found.damages(), damaged, {
      ...{ cluster, twins, segmentBytes: stock.catalog.walSegmentBytes, timelines: stock.catalog.wal },
      ...{ events, signal, now },
    })
    damaged = report.damaged
    found.noteHealed(damaged)
    await found.remember()
  }
  return {
    ...found.result(),
    damaged: [...begun.damaged, ...damaged],
    ...(typeof share === 'object' && 'since' in share && { resumedFrom: share.since }),
  }
}

/** Without the file that says whose the cluster is, nothing else can be read: it is healed before the others. */
async function healFirst(
  repository: Repository,
  request: VerifyRequest,
  context: VerifyContext,
  twins: Twins,
  found: readonly FoundDamage[],
): Promise<RepairReport & { isBlocked: boolean }> {
  const needsIdentity = found.some(({ place }) => place.kind === 'identity')
  if (found.length === 0) return { damaged: [], isBlocked: false }
  const damaged = await explainAll(repository, undefined, found, twins)
  const { cluster } = request
  const { events, signal, now } = context
  const report = request.repair
    ? await repairAll(repository, found, damaged, {
        ...{ cluster, twins, segmentBytes: 0, timelines: [] },
        ...{ events, signal, now },
      })
    : { damaged }
  const isLeft = report.damaged.some(
    ({ key, mend }) => key.endsWith('/cluster.json') && mend.outcome !== 'healed',
  )
  return { ...report, isBlocked: needsIdentity && isLeft }
}

const onlyDamage = (damaged: Damage[]): VerifiedRepository => ({
  backups: [],
  wal: { files: 0, bytes: 0, sizeOnly: 0 },
  damaged,
  undecoded: 0,
  readBytes: 0,
})

function shareOf({ fraction, decode = false }: VerifyRequest, { isAll, known }: Stock, now: Date): Share {
  if (!isAll) return 'all'
  if (fraction !== undefined) return { fraction }
  const { unfinished } = known.stored
  const age = unfinished ? now.getTime() - Date.parse(unfinished.since) : 0
  const isToResume =
    unfinished !== undefined &&
    (unfinished.decode || !decode) &&
    // Of a clock that was ahead, everything would be older.
    age >= 0 &&
    age < RESUMED_WITHIN_MS
  return isToResume ? { since: unfinished.since } : 'all'
}

const sinceOf = (share: Share, now: Date) =>
  typeof share === 'object' && 'since' in share ? share.since : now.toISOString()

async function readPlanned(
  repository: Repository,
  stock: Stock,
  plan: ReadingPlan,
  found: FoundFaults,
  { cluster, jobs, decode = false }: VerifyRequest,
  { events, signal, now }: VerifyContext,
): Promise<void> {
  const readings = readingsOf(repository, stock, plan, found, { cluster, decode, events, signal, now })
  const task = 'Reading'
  const work = plan.spans.length + [...plan.objects.values()].flat().length
  try {
    await readSideBySide(repository, readings, {
      ...{ jobs: Math.max(1, Math.min(jobs, work)), task, total: plan.bytes, events, signal },
    })
  } catch (error) {
    // What was read so far need not be read again.
    await found.remember({ isUnfinished: true })
    throw error
  }
}

/** Archives of dumps, of which some object was read now, and what is to be loaded. */
async function verifyLogical(
  repository: Repository,
  { chosen }: Stock,
  found: FoundFaults,
  { cluster, jobs, scratch }: VerifyRequest,
  context: VerifyContext,
): Promise<void> {
  const { env, signal, now, events } = context
  for (const { id, isLoaded } of chosen) {
    const record = found.recordOf(id)
    if (record?.method !== 'logical' || found.hasFaults(id)) continue
    const onFault = (key: string, reason: string) => found.note({ key, reason, isContent: true })
    const read = found.readPart(record)
    const unlisted = await verifyDumps(repository, read, { env, jobs, signal, onFault })
    if (unlisted !== undefined) found.backup(id).unlisted = unlisted
    else for (const { name } of read.objects) found.noteProven(backupPrefix(cluster, id) + name)
    if (!isLoaded || found.hasFaults(id)) continue
    const proof = await verifyRestore(repository, record, { ...context, place: scratch!, jobs })
    found.backup(id).restore = proof
    for (const reason of faultsIn(proof)) onFault(backupPrefix(cluster, id), reason)
    if (proof.verdict === 'restored') found.noteProven(backupPrefix(cluster, id))
    const outcome = OUTCOMES[proof.verdict]
    await rememberRestore(repository.storage, cluster, {
      ...{ backup: id, finishedAt: now().toISOString(), outcome },
    }).catch((error) => {
      events.emit('warning', { text: `the restore of ${id} cannot be remembered: ${reasonOf(error)}` })
    })
  }
}

const OUTCOMES = { restored: 'proven', differs: 'failed', unproven: 'unproven' } as const

/** What hinders a restore here is told before hours of reading. */
async function requireLoadable(
  repository: Repository,
  { cluster, scratch }: VerifyRequest,
  { chosen }: Stock,
  { env }: VerifyContext,
): Promise<void> {
  if (scratch === undefined) return
  for (const { id } of chosen.filter(({ isLoaded }) => isLoaded)) {
    const record = await readAnyRecord(repository, cluster, id).catch(unlessDamaged)
    if (record?.method === 'logical') await planScratch(record, scratch, env)
  }
}

/** What is damaged is a fault, which is told when it is read. */
function unlessDamaged(error: unknown): undefined {
  if (!(error instanceof PgrecallError) || error.kind !== 'damaged') throw error
}

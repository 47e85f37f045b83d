import type { LogicalRecord } from '../catalog/logical-record.ts'
import type { Repository } from '../catalog/repository.ts'
import { noteRestoreRate } from '../catalog/restore-rates.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { isPartial } from '../logical/dump-selection.ts'
import { differenceText } from '../logical/fingerprint-compare.ts'
import type { LogicalSource } from '../logical/logical-run.ts'
import { type LogicalRestoreResult, restoreLogical } from '../logical/restore-logical.ts'
import type { DatabasePlan } from '../logical/restore-plan.ts'
import type { PreparedRestore } from '../logical/restore-prepare.ts'
import { inDatabase } from '../postgres/in-database.ts'
import type { RestoreErrors } from '../postgres/restore-messages.ts'
import { Server } from '../postgres/server.ts'
import { sideBySide } from '../side-by-side.ts'
import { openScratch, planScratch, type ScratchPlan } from './open-scratch.ts'
import { hindranceOf, prepareWhole, quiet } from './prepare-whole.ts'
import { type CountPrograms, compareContents, countRows } from './recount.ts'
import {
  type Circumstances,
  excusesIn,
  type ProvenDatabase,
  type ProvenPart,
  provenPart,
  type RestoreProof,
  verdictOf,
} from './restore-proof.ts'

export interface VerifyRestoreOptions {
  /** Where the scratch server lives. */
  place: string
  /** How many databases are loaded side by side, by one session each. */
  jobs: number
  env: LogicalSource['env']
  events: Events
  signal: AbortSignal
  now: () => Date
}

/** A backup that is being loaded into a scratch server. */
interface Proof extends VerifyRestoreOptions {
  record: LogicalRecord
  circumstances: Circumstances
  /** The scratch server. */
  source: LogicalSource
  prepared: PreparedRestore
  counting: CountPrograms
}

/**
 * Loads a logical backup into a server that is made for that, and counts what has come: a database after it is loaded has as
 * many things of each type as its dump, and where there are fingerprints the same rows. Server and folder go, whatever comes.
 *
 * What is loaded is run, as the user who runs this.
 * @throws PgrecallError `refused` where no such server can be started; `failed` where it ends on the way; `key`, `repository`
 */
export async function verifyRestore(
  repository: Repository,
  record: LogicalRecord,
  options: VerifyRestoreOptions,
): Promise<RestoreProof> {
  const { place, env, events, signal, now } = options
  const begun = now().getTime()
  const hindrance = await hindranceOf({ repository, record }, signal)
  if (hindrance !== undefined) return unproven(hindrance)
  const plan = await planScratch(record, place, env)
  events.emit('step', {
    text: `Restoring ${record.id} into a scratch server of PostgreSQL ${plan.server.postgres.majorVersion}`,
  })
  await using scratch = await openScratch(plan, record, place, options)
  const { connection } = scratch.server
  const source = { connection, connect: (to: typeof connection) => Server.connect(to), env: scratch.env }
  const prepared = await prepareWhole({ repository, record }, scratch.folder, source, options)
  const counting = { dump: plan.dump, restore: prepared.program }
  const circumstances = circumstancesOf(record, plan)
  const proof: Proof = { ...options, record, circumstances, source, prepared, counting }
  const loading = now().getTime()
  const parts = await prove(proof).catch(async (error) => {
    signal.throwIfAborted()
    await scratch.server.requireAlive()
    throw error
  })
  // What was lost with the server is not lost in the backup.
  await scratch.server.requireAlive()
  const verdict = verdictOf([parts.cluster, ...parts.databases])
  if (verdict === 'restored') await rememberRate(repository, record, loading, options)
  return {
    verdict,
    server: prepared.plan.target.versionText,
    tookMs: now().getTime() - begun,
    isCompared: prepared.fingerprints !== undefined,
    ...parts,
  }
}

/** By what loading took, with the count, a restore is estimated. */
async function rememberRate(
  repository: Repository,
  { cluster, id, databases }: LogicalRecord,
  begunMs: number,
  { now, jobs, events }: VerifyRestoreOptions,
): Promise<void> {
  const finished = now()
  const seconds = (finished.getTime() - begunMs) / 1000
  if (seconds <= 0) return
  const bytes = databases.reduce((sum, database) => sum + database.bytes, 0)
  const rate = {
    kind: 'verify',
    backup: id,
    bytes,
    seconds,
    jobs,
    finishedAt: finished.toISOString(),
  } as const
  await noteRestoreRate(repository, cluster, rate, events)
}

async function prove(proof: Proof): Promise<Pick<RestoreProof, 'cluster' | 'databases'>> {
  const cluster = await proveCluster(proof)
  const isScript = proof.record.form === 'script'
  return { cluster, databases: await (isScript ? countScript(proof) : proveDatabases(proof)) }
}

const circumstancesOf = (record: LogicalRecord, { server }: ScratchPlan): Circumstances => ({
  hasGlobals: record.hasGlobals,
  isPartial: isPartial(record.selection ?? {}),
  knowsSuperuser: record.bootstrapSuperuser !== undefined,
  dumped: Math.floor(record.postgres.version / 10_000),
  scratch: server.postgres.majorVersion,
})

function unproven(reason: string): RestoreProof {
  return {
    verdict: 'unproven',
    server: undefined,
    tookMs: 0,
    isCompared: false,
    cluster: { verdict: 'unproven', errors: 0, faults: [], excuses: [reason] },
    databases: [],
  }
}

/** What came of a part. */
interface Attempt<Result> {
  /** Undefined where it failed. */
  result: Result | undefined
  /** What ended it, as the one error that there was. */
  failed: RestoreErrors
  /** The first errors of the server on the way there. */
  heard: string[]
  /** Whether damage of what is stored ended it, which nothing excuses. */
  isDamaged: boolean
}

/**
 * Loads or counts something, and listens to what is said meanwhile.
 * @throws what is no finding about the backup; the signal's reason
 */
async function attempt<Result>(
  { events, signal }: Proof,
  work: (events: Events) => Promise<Result>,
): Promise<Attempt<Result>> {
  const heard: string[] = []
  const hear = (text: string) => {
    if (heard.length < MOST_HEARD && SERVER_ERROR.test(text)) heard.push(text)
  }
  try {
    const result = await work(quiet(events, hear))
    return { result, failed: NOTHING, heard, isDamaged: false }
  } catch (error) {
    signal.throwIfAborted()
    if (!(error instanceof PgrecallError) || !FINDINGS.has(error.kind)) throw error
    const failed = { count: 1, samples: [reasonOf(error)] }
    return { result: undefined, failed, heard, isDamaged: error.kind === 'damaged' }
  }
}

/** Kinds of what ends a restore that tell something about the backup; a lost session is one where the server lives. */
const FINDINGS: ReadonlySet<PgrecallError['kind']> = new Set(['damaged', 'failed', 'refused', 'connection'])
const NOTHING: RestoreErrors = { count: 0, samples: [] }
/** Other warnings are none, and not all errors are among the samples. */
const SERVER_ERROR = /\b(?:ERROR|FATAL): /
/** What is the reason for others comes before them. */
const MOST_HEARD = 1000

/** @param errors what the server refused @param differences what is not as it was recorded */
function partOf(
  { circumstances }: Proof,
  { heard, isDamaged }: Attempt<unknown>,
  errors: RestoreErrors,
  differences: readonly string[] = [],
): ProvenPart {
  const excuses = isDamaged ? [] : excusesIn([...heard, ...errors.samples], circumstances)
  return provenPart(errors, differences, excuses)
}

/** By a session of its own: several are under way. */
async function load(
  { prepared, source, signal, now }: Proof,
  part: Partial<PreparedRestore['plan']>,
  events: Events,
): Promise<LogicalRestoreResult> {
  const plan = { ...prepared.plan, ...part }
  await using server = await source.connect(source.connection)
  return await restoreLogical({ ...prepared, plan }, server, { source, events, signal, now })
}

/** Roles and tablespaces, or all of a script. */
async function proveCluster(proof: Proof): Promise<ProvenPart> {
  const tried = await attempt(proof, (events) => load(proof, { databases: [] }, events))
  return partOf(proof, tried, tried.result?.globals ?? tried.failed)
}

/** Several side by side, as `pg_upgrade` does it. */
async function proveDatabases(proof: Proof): Promise<ProvenDatabase[]> {
  const { record, events, jobs } = proof
  const task = `Restoring ${record.id}`
  const total = record.databases.reduce((sum, { bytes }) => sum + bytes, 0)
  let [bytes, items] = [0, 0]
  const tell = () => events.emit('progress', { task, bytes, total, items })
  tell()
  try {
    return await sideBySide(proof.prepared.plan.databases, jobs, async (database) => {
      const proven = await proveDatabase(proof, database)
      bytes += database.dumped.bytes
      items++
      tell()
      return proven
    })
  } finally {
    events.emit('progressEnd', { task })
  }
}

async function proveDatabase(proof: Proof, plan: DatabasePlan): Promise<ProvenDatabase> {
  const { source, counting, signal } = proof
  const { name, dumped } = plan
  const connection = { ...inDatabase(source.connection, name), database: name }
  const tried = await attempt(proof, async (events) => {
    const { databases } = await load(proof, { globals: undefined, databases: [plan] }, events)
    const { dumpVersion } = proof.record
    const before = { contents: dumped.contents, dumpVersion }
    const contents = await compareContents(counting, source.env, connection, before, signal)
    return { ...databases[0]!, contents, counted: await countRows(connection, signal) }
  })
  if (!tried.result) return { name, tables: 0, rows: 0, remarks: [], ...partOf(proof, tried, tried.failed) }
  const { errors, compare, contents, counted } = tried.result
  const differences = [...contents, ...(compare?.differences ?? []).map(differenceText)]
  return {
    name,
    ...counted,
    remarks: [...counted.remarks, ...(compare?.remarks ?? []).map(differenceText)],
    ...partOf(proof, tried, errors, differences),
  }
}

/** What a script has made: it says nothing of how much that should be. */
async function countScript({ source, signal }: Proof): Promise<ProvenDatabase[]> {
  await using server = await source.connect(source.connection)
  const found = await server.query<{ name: string }>(
    'SELECT datname AS name FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname',
  )
  const databases: ProvenDatabase[] = []
  for (const { name } of found) {
    const counts = await countRows({ ...inDatabase(source.connection, name), database: name }, signal)
    databases.push({ name, ...counts, ...provenPart(NOTHING, [], []) })
  }
  return databases
}

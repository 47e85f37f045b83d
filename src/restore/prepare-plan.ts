import { type BackupRecord, type BackupSummary, readBackupRecord } from '../catalog/backup-record.ts'
import { type Catalog, loadCatalog } from '../catalog/catalog.ts'
import { readChain } from '../catalog/chain.ts'
import {
  type DamagedObject,
  damagedText,
  KnownDamage,
  REPAIR_TEXT,
  readKnownDamage,
} from '../catalog/known-damage.ts'
import { isPhysicalId } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import type { TimelineWal } from '../catalog/wal-ranges.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { originalName } from '../postgres/incremental-file.ts'
import { parseHistory, type TimelineHistory } from '../postgres/timeline-history.ts'
import { historyName } from '../postgres/wal-file.ts'
import { readArchivedFile } from '../wal/read.ts'
import { chooseDatabases, type DatabaseChoice, databaseOf, type PartialRestore } from './databases.ts'
import { gather, locate } from './gather-evidence.ts'
import { backupsBefore, chooseBackup, makePlan, type RestorePlan } from './plan.ts'
import type { RestoreQuestion } from './question.ts'
import { chooseSound } from './sound-backup.ts'
import { openManifest } from './stored-manifest.ts'
import { missingLink, requireWhole, wholeChains } from './whole-chains.ts'

export interface PrepareRequest {
  cluster: string
  question: RestoreQuestion
  dataDirectory: string
  tablespaceMap: ReadonlyMap<string, string>
  /** Whether what is in the data directory already is brought to the state of the backup. */
  delta: boolean
  /** For a partial restore. */
  databases: DatabaseChoice | undefined
  /** The restore_command that the restored server will run against a repository. */
  restoreCommandFor: (repository: Repository) => string
}

export interface PrepareContext {
  repositories: readonly Repository[]
  events: Events
  signal: AbortSignal
}

/**
 * Works out how to get to the target, from what is stored and nothing else: which backup, which WAL, and whether the
 * target can be reached at all. Changes nothing. The first repository from which it works is taken; one whose backup is known to be
 * damaged only where there is no other.
 *
 * @throws PgrecallError `absent`, `unreachable` or `usage`, with the nearest moment that can be had as the hint
 */
export async function prepareRestore(
  request: PrepareRequest,
  context: PrepareContext,
): Promise<{ plan: RestorePlan; repository: Repository }> {
  const failures: unknown[] = []
  let lastResort: { plan: RestorePlan; repository: Repository } | undefined
  const passOver = ({ name }: Repository, reason: string) => {
    if (context.repositories.length > 1)
      context.events.emit('warning', { text: `not from repository "${name}": ${reason}` })
  }
  // What an optional one lacks is nothing unusual, and would be missed only at the end of the recovery.
  const order = context.repositories.toSorted((a, b) => Number(b.required) - Number(a.required))
  for (const repository of order) {
    try {
      const plan = await prepareFrom(repository, request, context)
      if (!plan.damage) return { plan, repository }
      lastResort ??= { plan, repository }
      passOver(repository, `backup ${plan.backup.id} ${damagedText(plan.damage)}`)
    } catch (error) {
      context.signal.throwIfAborted()
      failures.push(error)
      passOver(repository, reasonOf(error))
    }
  }
  if (lastResort) return lastResort
  throw failures[0] ?? new PgrecallError('config', 'no repository to restore from')
}

async function prepareFrom(
  repository: Repository,
  request: PrepareRequest,
  context: PrepareContext,
): Promise<RestorePlan> {
  const { cluster, question } = request
  // Every record anew: what catalog.json remembers of a backup decides nothing here.
  const stored = await loadCatalog(repository.storage, cluster, { fresh: true })
  requireBackups(stored, repository, question.backup)
  const chains = wholeChains(stored.backups)
  requireWhole(chains, question.backup)
  const catalog = { ...stored, backups: chains.whole }
  const path = await pathTo(repository, catalog, question, context)
  const location = await locate(repository, catalog, path, question, context)
  const wanted = chooseBackup(question, catalog.backups, path, location)
  const damageOf = await knownDamage(repository, catalog, request, context)
  const fitting = backupsBefore(question, catalog.backups, path, location)
  const choice = chooseSound(question, wanted, fitting, path, catalog, damageOf)
  const summary = choice.backup
  const broken = chains.broken.map((chain) => ({ id: chain.id, reason: missingLink(chain) }))
  const unsound = choice.passedOver.map((backup) => ({
    id: backup.id,
    reason: `it ${damagedText(damageOf(backup)!)}; ${REPAIR_TEXT}`,
  }))
  for (const { id, reason } of [...catalog.damaged, ...broken, ...unsound]) {
    if (id > summary.id && isPhysicalId(id))
      context.events.emit('warning', { text: `the newer backup ${id} is passed over: ${reason}` })
  }
  const evidence = await gather(repository, catalog, path, summary, question, location, context)
  const backup = await readBackupRecord(repository.storage, cluster, summary.id)
  if (!backup)
    throw new PgrecallError('absent', `backup ${summary.id} was removed while the restore was planned`)
  return makePlan({
    question: { ...question, timeline: timelineSetting(path, question) },
    repository: repository.name,
    chain: await readChain(repository.storage, backup),
    path,
    evidence,
    dataDirectory: request.dataDirectory,
    tablespaceMap: request.tablespaceMap,
    delta: request.delta,
    partial: request.databases && (await partialRestore(repository, backup, request.databases)),
    restoreCommand: request.restoreCommandFor(repository),
    damage: choice.damage,
    instead: choice.instead,
  })
}

/**
 * What is known to be damaged of what a restore of a backup needs: the indexes, too, where only a part of it is written. Where that
 * cannot be read, a restore is tried all the same.
 */
async function knownDamage(
  { storage }: Repository,
  catalog: Catalog,
  { delta, databases }: PrepareRequest,
  { events, signal }: PrepareContext,
): Promise<(backup: BackupSummary) => DamagedObject | undefined> {
  const known = await readKnownDamage(storage, catalog).catch((error) => {
    signal.throwIfAborted()
    events.emit('warning', { text: `what is known to be damaged cannot be read: ${reasonOf(error)}` })
    return new KnownDamage(catalog, undefined)
  })
  return (backup) => (delta || databases ? known.above(backup) : known.of(backup))
}

/** A backup without a list of its databases tells by its files which there are. */
async function partialRestore(
  repository: Repository,
  backup: BackupRecord,
  choice: DatabaseChoice,
): Promise<PartialRestore> {
  const found = new Set<string>()
  if (!backup.databases) {
    const manifest = await openManifest(backup, repository)
    await manifest.readEach(({ path }) => {
      const oid = databaseOf(originalName(path) ?? path)
      if (oid !== undefined) found.add(oid)
    })
  }
  return chooseDatabases(backup, [...found], choice)
}

/** A backup whose record is damaged is not passed over in silence: it may be the one that was wanted. */
function requireBackups(catalog: Catalog, repository: Repository, asked: string | undefined): void {
  const damaged = catalog.damaged.find(({ id }) => (asked === undefined ? isPhysicalId(id) : id === asked))
  if (damaged && (damaged.id === asked || catalog.backups.length === 0)) {
    throw new PgrecallError('damaged', damaged.reason, {
      hint: 'restore from another repository, or from another backup: "pgrecall list" shows them',
    })
  }
  if (catalog.backups.length > 0) return
  throw new PgrecallError(
    'absent',
    `cluster "${catalog.cluster}" has no backup in ${repository.storage.location}`,
    { hint: 'see --cluster, --repository and --config; "pgrecall list" shows what there is' },
  )
}

/** The way through the timelines to the one that is asked for. */
async function pathTo(
  repository: Repository,
  catalog: Catalog,
  { timeline, backup }: RestoreQuestion,
  { signal }: PrepareContext,
): Promise<TimelineHistory> {
  const asked = catalog.backups.find((candidate) => candidate.id === backup) ?? catalog.backups.at(-1)!
  const goal =
    timeline === 'latest' ? newestTimeline(catalog) : timeline === 'current' ? asked.timeline : timeline
  requireOwnWal(catalog, goal)
  const bytes =
    goal === 1 ? undefined : await readArchivedFile(repository, catalog.cluster, historyName(goal), signal)
  if (!bytes) {
    const isKnown = goal === 1 || catalog.backups.some((candidate) => candidate.timeline === goal)
    if (isKnown) return [{ timeline: goal, begin: 0n, end: undefined }]
    throw new PgrecallError('unreachable', `the archive has no history of timeline ${goal}`, {
      hint: `the newest timeline is ${newestTimeline(catalog)}; "pgrecall list" shows them all`,
    })
  }
  return parseHistory(bytes.toString('utf8'), goal)
}

/** The newest timeline of which there is more than a history. */
function newestTimeline({ backups, wal }: Catalog): number {
  const withWal = wal.filter(hasSegments)
  return Math.max(...[...backups, ...withWal].map((entry) => entry.timeline))
}

const hasSegments = ({ ranges, receiving }: TimelineWal) => ranges.length > 0 || receiving !== undefined

/**
 * Of a timeline that has a history but no segment yet, PostgreSQL would read its parent's WAL, past the point where the
 * two parted.
 */
function requireOwnWal(catalog: Catalog, timeline: number): void {
  const own = catalog.wal.find((entry) => entry.timeline === timeline)
  const hasBackup = catalog.backups.some((backup) => backup.timeline === timeline)
  if (hasBackup || !own || hasSegments(own)) return
  throw new PgrecallError('unreachable', `of timeline ${timeline} only the history is archived, and no WAL`, {
    hint: `the newest timeline with WAL is ${newestTimeline(catalog)}`,
  })
}

/** What the server is told: just the timeline that the plan is about, unless it is to follow as a standby. */
function timelineSetting(
  path: TimelineHistory,
  { timeline, standby }: RestoreQuestion,
): RestoreQuestion['timeline'] {
  return standby && timeline === 'latest' ? 'latest' : path.at(-1)!.timeline
}

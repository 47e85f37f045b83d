import { type BackupRecord, type BackupSummary, readBackupRecord } from '../catalog/backup-record.ts'
import { type Catalog, loadCatalog } from '../catalog/catalog.ts'
import { readChain } from '../catalog/chain.ts'
import { isPhysicalId } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import type { TimelineWal } from '../catalog/wal-ranges.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { originalName } from '../postgres/incremental-file.ts'
import { type Lsn, lsn } from '../postgres/lsn.ts'
import { parseHistory, type TimelineHistory } from '../postgres/timeline-history.ts'
import { historyName, segmentNumber } from '../postgres/wal-file.ts'
import { readArchivedFile } from '../wal/read.ts'
import { chooseDatabases, type DatabaseChoice, databaseOf, type PartialRestore } from './databases.ts'
import { searchWal, type WalFinding } from './find-target.ts'
import { chooseBackup, makePlan, onTheWay, type RestorePlan } from './plan.ts'
import type { Evidence, RestoreQuestion } from './question.ts'
import { openManifest } from './stored-manifest.ts'
import { describeTarget, type Target } from './target.ts'
import { reachAlong, type WalLeg } from './timeline-path.ts'
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
 * target can be reached at all. Changes nothing. The first repository from which it works is taken.
 *
 * @throws PgrecallError `absent`, `unreachable` or `usage`, with the nearest moment that can be had as the hint
 */
export async function prepareRestore(
  request: PrepareRequest,
  context: PrepareContext,
): Promise<{ plan: RestorePlan; repository: Repository }> {
  const failures: unknown[] = []
  // What an optional one lacks is nothing unusual, and would be missed only at the end of the recovery.
  const order = context.repositories.toSorted((a, b) => Number(b.required) - Number(a.required))
  for (const repository of order) {
    try {
      return { plan: await prepareFrom(repository, request, context), repository }
    } catch (error) {
      context.signal.throwIfAborted()
      failures.push(error)
      if (context.repositories.length > 1) {
        context.events.emit('warning', {
          text: `not from repository "${repository.name}": ${reasonOf(error)}`,
        })
      }
    }
  }
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
  const summary = chooseBackup(question, catalog.backups, path, location)
  const broken = chains.broken.map((chain) => ({ id: chain.id, reason: missingLink(chain) }))
  for (const { id, reason } of [...catalog.damaged, ...broken]) {
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
  })
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

/**
 * Where a named or numbered target lies: the backup has to end before it, so it is looked for first. From each backup
 * its own WAL can be followed to the first hole; so the newest goes first, and what lies behind a hole is found too.
 */
async function locate(
  repository: Repository,
  catalog: Catalog,
  path: TimelineHistory,
  { target }: RestoreQuestion,
  context: PrepareContext,
): Promise<Lsn | undefined> {
  if (target.kind !== 'xid' && target.kind !== 'name') return undefined
  const usable = onTheWay(catalog.backups, path)
  if (usable.length === 0) return undefined
  const restorePoints = new Set<string>()
  let searched: bigint | undefined
  for (const backup of usable.toReversed()) {
    const start = lsn(backup.start.lsn)
    const { legs } = reachAlong(path, start, catalog.wal, catalog.walSegmentBytes)
    const finding = await search(repository, catalog, legsUpTo(legs, searched), target, context)
    if (finding.found !== undefined) return finding.found
    for (const name of finding.restorePoints) restorePoints.add(name)
    searched = segmentNumber(start, catalog.walSegmentBytes)
  }
  throw notFound(target, [...restorePoints])
}

/** What is left to search. The segment that was searched last counts in: a record may begin before it. */
function legsUpTo(legs: readonly WalLeg[], searched: bigint | undefined): WalLeg[] {
  if (searched === undefined) return [...legs]
  return legs
    .filter((leg) => leg.first <= searched)
    .map((leg) => ({ ...leg, last: leg.last < searched ? leg.last : searched }))
}

function notFound(target: Extract<Target, { kind: 'xid' | 'name' }>, known: string[]): PgrecallError {
  const hint =
    target.kind === 'name'
      ? restorePointsText(known)
      : 'a transaction that is still running, or that changed nothing, has no end in the WAL'
  return new PgrecallError('unreachable', `${describeTarget(target)} is not in the archived WAL`, { hint })
}

function restorePointsText(known: readonly string[]): string {
  if (known.length === 0) return 'there is no restore point at all; pg_create_restore_point() makes one'
  const names = known.slice(0, 5).map((name) => `"${name}"`)
  return `there are restore points with these names: ${names.join(', ')}`
}

async function gather(
  repository: Repository,
  catalog: Catalog,
  path: TimelineHistory,
  backup: BackupSummary,
  { target }: RestoreQuestion,
  location: Lsn | undefined,
  context: PrepareContext,
): Promise<Evidence> {
  const reach = reachAlong(path, lsn(backup.start.lsn), catalog.wal, catalog.walSegmentBytes)
  const found = location !== undefined && location < reach.end ? location : undefined
  const nothing = { lastMoment: undefined, lastTransaction: undefined, lastLsn: undefined }
  if (target.kind === 'immediate' && !reach.isGrowing) return { reach, found, ...nothing }
  const { lastMoment, lastTransaction, lastLsn } = await search(
    repository,
    catalog,
    reach.legs,
    { kind: 'end' },
    context,
  )
  return {
    reach: reach.isGrowing && lastLsn !== undefined ? { ...reach, end: lastLsn } : reach,
    found,
    lastMoment,
    lastTransaction,
    lastLsn,
  }
}

function search(
  repository: Repository,
  { cluster, walSegmentBytes }: Catalog,
  legs: Parameters<typeof searchWal>[0],
  target: Parameters<typeof searchWal>[1],
  { events, signal }: PrepareContext,
): Promise<WalFinding> {
  return searchWal(legs, target, {
    segmentBytes: walSegmentBytes,
    read: (name) => readArchivedFile(repository, cluster, name, signal),
    onProgress: (segments) =>
      events.emit('progress', {
        task: 'Reading WAL',
        bytes: segments * walSegmentBytes,
        total: undefined,
        items: segments,
      }),
    onEnd: () => events.emit('progressEnd', { task: 'Reading WAL' }),
  })
}

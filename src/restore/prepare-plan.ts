import { type BackupSummary, readBackupRecord } from '../catalog/backup-record.ts'
import { type Catalog, loadCatalog } from '../catalog/catalog.ts'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { type Lsn, lsn } from '../postgres/lsn.ts'
import { parseHistory, type TimelineHistory } from '../postgres/timeline-history.ts'
import { historyName } from '../postgres/wal-file.ts'
import { readArchivedFile } from '../wal/read.ts'
import { searchWal, type WalFinding } from './find-target.ts'
import { chooseBackup, makePlan, onTheWay, type RestorePlan, type RestoreQuestion } from './plan.ts'
import { reachAlong } from './timeline-path.ts'

export interface PrepareRequest {
  cluster: string
  question: RestoreQuestion
  dataDirectory: string
  tablespaceMap: ReadonlyMap<string, string>
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
  for (const repository of context.repositories) {
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
  const catalog = await loadCatalog(repository.storage, cluster)
  requireBackups(catalog, repository)
  const path = await pathTo(repository, catalog, question, context)
  const location = await locate(repository, catalog, path, question, context)
  const summary = chooseBackup(question, catalog.backups, path, location)
  const evidence = await gather(repository, catalog, path, summary, question, location, context)
  const backup = await readBackupRecord(repository.storage, cluster, summary.id)
  if (!backup)
    throw new PgrecallError('absent', `backup ${summary.id} was removed while the restore was planned`)
  return makePlan({
    question,
    repository: repository.name,
    backup,
    path,
    evidence,
    dataDirectory: request.dataDirectory,
    tablespaceMap: request.tablespaceMap,
    restoreCommand: request.restoreCommandFor(repository),
  })
}

function requireBackups(catalog: Catalog, repository: Repository): void {
  if (catalog.backups.length > 0) return
  throw new PgrecallError(
    'absent',
    `cluster "${catalog.cluster}" has no backup in ${repository.storage.location}`,
    {
      hint: 'see --cluster, --repository and --config; "pgrecall list" shows what there is',
    },
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
  const newest = Math.max(
    ...catalog.backups.map((candidate) => candidate.timeline),
    ...catalog.wal.map((wal) => wal.timeline),
  )
  const goal = timeline === 'latest' ? newest : timeline === 'current' ? asked.timeline : timeline
  const bytes =
    goal === 1 ? undefined : await readArchivedFile(repository, catalog.cluster, historyName(goal), signal)
  if (!bytes) {
    const isKnown = goal === 1 || catalog.backups.some((candidate) => candidate.timeline === goal)
    if (isKnown) return [{ timeline: goal, begin: 0n, end: undefined }]
    throw new PgrecallError('unreachable', `the archive has no history of timeline ${goal}`, {
      hint: `the newest timeline is ${newest}; "pgrecall list" shows them all`,
    })
  }
  return parseHistory(bytes.toString('utf8'), goal)
}

/** Where a named or numbered target lies: the backup has to end before it, so it is looked for first. */
async function locate(
  repository: Repository,
  catalog: Catalog,
  path: TimelineHistory,
  { target }: RestoreQuestion,
  context: PrepareContext,
): Promise<Lsn | undefined> {
  if (target.kind !== 'xid' && target.kind !== 'name') return undefined
  const oldest = onTheWay(catalog.backups, path)[0]
  if (!oldest) return undefined
  const { legs } = reachAlong(path, lsn(oldest.start.lsn), catalog.wal, catalog.walSegmentBytes)
  const finding = await search(repository, catalog, legs, target, context)
  if (finding.found === undefined) {
    const known = finding.restorePoints
      .slice(0, 5)
      .map((name) => `"${name}"`)
      .join(', ')
    const what =
      target.kind === 'name' ? `restore point "${target.name}"` : `the end of transaction ${target.xid}`
    throw new PgrecallError('unreachable', `${what} is not in the archived WAL`, {
      hint:
        target.kind === 'name'
          ? `restore points that are there: ${known || 'none'}`
          : 'a transaction that is still running, or that changed nothing, has no end in the WAL',
    })
  }
  return finding.found
}

async function gather(
  repository: Repository,
  catalog: Catalog,
  path: TimelineHistory,
  backup: BackupSummary,
  { target }: RestoreQuestion,
  location: Lsn | undefined,
  context: PrepareContext,
) {
  const reach = reachAlong(path, lsn(backup.start.lsn), catalog.wal, catalog.walSegmentBytes)
  if (target.kind === 'immediate')
    return { reach, found: undefined, lastMoment: undefined, lastLsn: undefined }
  const finding = await search(repository, catalog, reach.legs, { kind: 'end' }, context)
  return { reach, found: location, lastMoment: finding.lastMoment, lastLsn: finding.lastLsn }
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

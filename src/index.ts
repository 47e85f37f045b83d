/**
 * pgrecall as a library: what the command line does, as functions with typed results. Nothing here prints, exits, listens to
 * signals or reads arguments; of the environment it reads what `OpenOptions.env` says. docs/library.md has examples that run.
 */
import type { BackupOutcome } from './backup/outcome.ts'
import type { BackupRecord } from './catalog/backup-record.ts'
import type { Catalog } from './catalog/catalog.ts'
import type { LogicalRecord } from './catalog/logical-record.ts'
import type { Finding } from './checks/finding.ts'
import type { Answer } from './commands/each-repository.ts'
import type { CopyResult } from './copy/copy-cluster.ts'
import { PgrecallError } from './errors.ts'
import { Events } from './events.ts'
import type {
  BackupOptions,
  Cluster,
  CopyOptions,
  LogicalBackupOptions,
  OpenOptions,
  PlannedRestore,
  RestoreOptions,
  VerifyOptions,
} from './library/api.ts'
import { handleOf, inCluster } from './library/cluster.ts'
import { unfitNode } from './node-version.ts'
import type { RestoreResult } from './restore/restore-cluster.ts'
import type { RetentionResult } from './retention/apply.ts'
import type { RetentionPlan } from './retention/plan.ts'
import type { RetentionRules } from './retention/rules.ts'
import type { Status } from './status/take-status.ts'
import type { VerifiedRepository } from './verification/verified.ts'
import type { PushResult } from './wal/push.ts'

export type { BackupOutcome, StoredRecord } from './backup/outcome.ts'
export type { BackupRecord, BackupSummary } from './catalog/backup-record.ts'
export type { Catalog } from './catalog/catalog.ts'
export type { LogicalRecord, LogicalSummary } from './catalog/logical-record.ts'
export type { Finding } from './checks/finding.ts'
export type { Answer } from './commands/each-repository.ts'
export type { CopyResult } from './copy/copy-cluster.ts'
export { type ErrorKind, EXIT_CODES, exitCodeOf, PgrecallError } from './errors.ts'
export { type EventMap, type EventName, Events, type Listener } from './events.ts'
export type {
  BackupOptions,
  Cluster,
  Configuration,
  CopyOptions,
  LogicalBackupOptions,
  OpenOptions,
  PlannedRestore,
  RestoreOptions,
  VerifyOptions,
} from './library/api.ts'
export type { TargetFolder } from './restore/data-directory.ts'
export type { RestorePlan } from './restore/plan.ts'
export type { RestoreResult } from './restore/restore-cluster.ts'
export type { RetentionResult } from './retention/apply.ts'
export type { RetentionPlan } from './retention/plan.ts'
export type { RetentionRules } from './retention/rules.ts'
export type { Status } from './status/take-status.ts'
export type { Fault } from './verification/read-job.ts'
export type { VerifiedBackup, VerifiedRepository } from './verification/verified.ts'
export type { PushResult } from './wal/push.ts'

/**
 * Reads the configuration and chooses a cluster of it. Connects to nothing, and holds nothing open: what is given back can be
 * used any number of times, and needs no closing. Warnings about the configuration go to `events`.
 *
 * Run it as the user who owns the data directory; unlike the command, it does not become that user when it is root.
 *
 * @throws PgrecallError `config` where there is no such file, cluster or repository, or the configuration has mistakes, one
 *   sentence for each; `usage` for both of `config` and `configFile`; `refused` on a Node.js that is too old
 */
export async function openCluster(options: OpenOptions = {}): Promise<Cluster> {
  const unfit = unfitNode()
  if (unfit) throw new PgrecallError('refused', unfit)
  const { configFile, config, cluster, repository, env } = options
  if (config && configFile !== undefined)
    throw new PgrecallError('usage', 'a configuration is either a value or a file', {
      hint: 'give one of config and configFile',
    })
  const { buildContext, librarySurroundings, VERSION } = await import('./composition.ts')
  const { configurationOf } = await import('./config/load.ts')
  const events = options.events ?? new Events()
  const context = await buildContext(
    { options: { config: configFile, cluster, repository } },
    VERSION,
    events,
    options.signal ?? new AbortController().signal,
    librarySurroundings({
      ...(env && { env }),
      ...(config && { configuration: configurationOf(config) }),
    }),
  )
  const handle = handleOf(context)
  for (const text of context.config().warnings) events.emit('warning', { text })
  return handle
}

/**
 * Takes a physical backup into all repositories of the cluster at once. When it resolves, the backup and all WAL that it needs
 * are durable in every repository that `records` names; `failures` has the others. Killed at any moment, it leaves nothing that
 * is listed, and the next one goes on from it.
 *
 * @returns sizes are in bytes, moments in ISO 8601; `records[0].record.damagedPages` tells of pages that do not fit their checksums
 * @throws PgrecallError `refused` before anything is copied; `connection`, `busy`, `repository`, `pages` or `failed`
 */
export function takeBackup(
  cluster: Cluster,
  options: BackupOptions = {},
): Promise<BackupOutcome<BackupRecord>> {
  return inCluster(cluster, async (context) => (await import('./library/take.ts')).take(context, options))
}

/**
 * Dumps databases with `pg_dump`, each in one snapshot, into all repositories of the cluster at once.
 *
 * @throws PgrecallError `usage` for options that exclude each other; otherwise as `takeBackup`
 */
export function takeLogicalBackup(
  cluster: Cluster,
  options: LogicalBackupOptions = {},
): Promise<BackupOutcome<LogicalRecord>> {
  return inCluster(cluster, async (context) =>
    (await import('./library/take.ts')).takeLogical(context, options),
  )
}

/**
 * Works out how to restore, from what is stored and nothing else: which backup, which WAL, and whether the target can be reached
 * at all. Changes nothing. The first repository from which it works is taken.
 *
 * @throws PgrecallError `absent` or `unreachable` with the nearest moment that can be had as the hint; `usage` for two targets,
 *   or where the configuration is no file and no `restoreCommand` is given; `refused` where something is in the way
 */
export function planRestore(cluster: Cluster, options: RestoreOptions = {}): Promise<PlannedRestore> {
  return inCluster(cluster, async (context) => (await import('./library/restore.ts')).plan(context, options))
}

/**
 * Carries out the very plan that was made. Killed at any moment, it leaves a directory in which no server starts, and can be run
 * again. The server itself is not started.
 *
 * @param jobs how many workers restore side by side; as the configuration has it when left out
 * @returns how many files and bytes the cluster has
 * @throws PgrecallError `damaged` when stored bytes are not what they must be, `failed` when they cannot be written
 */
export function restore(
  cluster: Cluster,
  planned: PlannedRestore,
  { jobs }: { jobs?: number } = {},
): Promise<RestoreResult> {
  return inCluster(cluster, async (context) =>
    (await import('./library/restore.ts')).carryOut(context, planned, jobs),
  )
}

/**
 * What is stored of the cluster: backups, oldest first, and the archived WAL by timeline.
 *
 * @returns an answer for each repository: its catalog as `result`, or the `error` of one that cannot be read
 * @throws PgrecallError what the first repository failed with, where all did
 */
export function listBackups(cluster: Cluster): Promise<Answer<Catalog>[]> {
  return inCluster(cluster, async (context) => (await import('./library/keep.ts')).list(context))
}

/**
 * What can be recovered, how far the archive is behind, and what is wrong. Neither a server that is down nor a repository that
 * cannot be read is an error: each is a finding.
 */
export function takeStatus(cluster: Cluster): Promise<Status> {
  return inCluster(cluster, async (context) => (await import('./library/keep.ts')).look(context))
}

/**
 * What retention would remove now, in each repository, and by which rule everything else stays. Changes nothing.
 *
 * @param rules in place of those of the configuration; spans of time are in milliseconds
 * @throws PgrecallError `config` without any rule; what the first repository failed with, where all did
 */
export function planRetention(cluster: Cluster, rules?: RetentionRules): Promise<Answer<RetentionPlan>[]> {
  return inCluster(cluster, async (context) => (await import('./library/keep.ts')).planRules(context, rules))
}

/**
 * Removes backups that no rule keeps, and WAL that no backup needs. The plan is made anew, under the lock of the cluster.
 *
 * @param rules in place of those of the configuration; spans of time are in milliseconds
 * @returns for each repository the plan, what was removed, and what the store did not let go
 * @throws PgrecallError as `planRetention`, and `busy` while something else writes
 */
export function applyRetention(cluster: Cluster, rules?: RetentionRules): Promise<Answer<RetentionResult>[]> {
  return inCluster(cluster, async (context) => (await import('./library/keep.ts')).applyRules(context, rules))
}

/**
 * Reads what is stored, and compares every byte with the sum that was recorded. Needs no secret key, unless it decodes. What it
 * read is remembered in the repository, so that `fraction` goes on with what was read longest ago.
 *
 * @returns for each repository what came of each backup, and each damaged object with what is lost by it and what heals it
 * @throws PgrecallError `absent` for an id that is not there; what the first repository failed with, where all did
 */
export function verify(cluster: Cluster, options: VerifyOptions = {}): Promise<Answer<VerifiedRepository>[]> {
  return inCluster(cluster, async (context) =>
    (await import('./library/keep.ts')).verifyBackups(context, options),
  )
}

/**
 * Looks for what would make the next backup or restore fail. Changes nothing, so no segment is sent through the archive and no
 * object is written to a repository.
 *
 * @returns each thing that was looked at, with a verdict and, where it is not well, the mend; in the order in which it is told
 */
export function check(cluster: Cluster): Promise<Finding[]> {
  return inCluster(cluster, async (context) => (await import('./library/keep.ts')).check(context))
}

/**
 * Copies what another repository lacks of the cluster's backups and WAL. What is damaged is left out, told in `failures`, and the
 * rest is copied. May be stopped at any moment, and goes on when it is run again.
 *
 * @throws PgrecallError `absent` when the source has nothing of the cluster, or not the backup that is asked for; `conflict`
 *   when the two are of different clusters; `busy` while something else writes to the destination; `key` when something has to
 *   be decrypted and this host cannot
 */
export function copyBackups(cluster: Cluster, options: CopyOptions): Promise<CopyResult> {
  return inCluster(cluster, async (context) => (await import('./library/keep.ts')).copy(context, options))
}

/**
 * Archives one file of `pg_wal`. When it resolves, the bytes are durable in every required repository; one that was stored
 * before is compared and never overwritten.
 *
 * @param path of the file, absolute or from the current folder
 * @throws PgrecallError `usage` for a file that is no WAL, `conflict` where other bytes are stored under the name, `repository`
 */
export function pushWal(cluster: Cluster, path: string): Promise<PushResult> {
  return inCluster(cluster, async (context) => (await import('./library/wal.ts')).push(context, path))
}

/**
 * Brings one WAL file out of the archive, checked, and into its place by rename. Where there is no answer, it asks again for
 * some seconds.
 *
 * @param name such as `000000010000000000000003` or `00000002.history`
 * @param destination the path of the new file
 * @returns the repository that had it; undefined when every repository answered that it is not there
 * @throws PgrecallError where a repository gave no answer and no other has the file: an error is never "not there"
 */
export function fetchWal(cluster: Cluster, name: string, destination: string): Promise<string | undefined> {
  return inCluster(cluster, async (context) =>
    (await import('./library/wal.ts')).fetch(context, name, destination),
  )
}

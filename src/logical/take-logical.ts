import { formatCodec } from '../archive/codec.ts'
import { Destinations } from '../backup/destinations.ts'
import { clearRun } from '../backup/leave-run.ts'
import { clearLogicalDebris, newBackupId, openStore } from '../backup/open-run.ts'
import { type BackupOutcome, failuresOf, type StoredRecord, tellOutcome } from '../backup/outcome.ts'
import { storeRecord, storeText } from '../catalog/commit-backup.ts'
import { FORMAT } from '../catalog/identity.ts'
import { lockObjects } from '../catalog/immutability.ts'
import { backupPrefix } from '../catalog/layout.ts'
import { logicalRestoreText } from '../catalog/logical-hand-restore.ts'
import type { LogicalDraft, LogicalRecord } from '../catalog/logical-record.ts'
import type { Repository } from '../catalog/repository.ts'
import type { Events } from '../events.ts'
import type { DatabaseChoice } from './choose-databases.ts'
import { dumpAll, type StoredParts } from './dump-all.ts'
import type { LogicalRequest } from './logical-request.ts'
import type { LogicalPlan, LogicalRun, LogicalSource } from './logical-run.ts'
import { planDump } from './plan-dump.ts'

export interface LogicalContext {
  repositories: readonly Repository[]
  /** As in CommandContext. */
  makeIfNew: (repository: Repository) => Promise<void>
  events: Events
  signal: AbortSignal
  now: () => Date
}

/**
 * Takes a logical backup into all repositories of a cluster at once: a dump of each database, all that belongs to the whole
 * cluster, and what the dumps hold. When it resolves, the backup is durable in the repositories that have a record. When it
 * rejects, or the process is killed before any record is written, no repository lists such a backup.
 *
 * @throws PgrecallError `refused` or `absent` before anything is dumped; `busy`, `connection`, `repository` or `failed` later
 */
export async function takeLogicalBackup(
  request: LogicalRequest,
  source: LogicalSource,
  context: LogicalContext,
): Promise<BackupOutcome<LogicalRecord>> {
  const { repositories, events, now } = context
  const plan = await planned(request, source)
  await using destinations = await Destinations.open(repositories, request.cluster, plan.server, context)
  const run = await openLogicalRun(request, plan, source, destinations, context)
  const startedAt = now()
  const records = await dumpAll(run)
    .then((parts) => commit(run, parts, startedAt, now))
    .catch(async (error) => {
      // What fails in consequence of a signal, or of a lost lock, is told as that.
      const reason = run.signal.aborted ? run.signal.reason : error
      for (const destination of destinations.opened) await clearRun(run.place, destination)
      throw reason
    })
  const failures = failuresOf(repositories, destinations, records)
  for (const destination of destinations.opened)
    if (failures.some(({ repository }) => repository === destination.repository.name))
      await clearRun(run.place, destination)
  await tellOutcome(request.cluster, destinations, records, { events, now })
  return { records, failures }
}

async function planned(request: LogicalRequest, source: LogicalSource): Promise<LogicalPlan> {
  await using server = await source.connect(source.connection)
  return await planDump(request, server, source)
}

/** The new backup's folder. Debris of logical backups goes. */
async function openLogicalRun(
  request: LogicalRequest,
  plan: LogicalPlan,
  source: LogicalSource,
  destinations: Destinations,
  { events, signal, now }: LogicalContext,
): Promise<LogicalRun> {
  const { cluster } = request
  await clearLogicalDebris(cluster, destinations, { events })
  const id = await newBackupId(destinations, cluster, 'logical', { events, now })
  return {
    request,
    plan,
    source,
    place: { cluster, id },
    destinations,
    store: openStore(destinations, backupPrefix(cluster, id), undefined),
    events,
    signal: AbortSignal.any([signal, destinations.lost]),
    warnings: [...plan.warnings],
  }
}

/** `RESTORE.txt`, the locks of the store, and `backup.json`, from which on the backup exists there. */
async function commit(
  run: LogicalRun,
  parts: StoredParts,
  startedAt: Date,
  now: () => Date,
): Promise<StoredRecord<LogicalRecord>[]> {
  const { store, destinations, signal } = run
  signal.throwIfAborted()
  const stored = await store.each(async (repository): Promise<LogicalRecord> => {
    const { storage } = repository
    const draft = draftRecord(run, parts, repository, startedAt)
    const text = await storeText(storage, store.folder, logicalRestoreText(draft))
    const whole: LogicalDraft = { ...draft, objects: [...draft.objects, { ...text, kind: 'text' }] }
    await lockObjects(
      repository,
      whole.objects.map(({ name }) => store.folder + name),
      now(),
      signal,
    )
    await destinations.of(repository).lock.confirm()
    return storeRecord(storage, store.folder, whole, now())
  })
  return Object.entries(stored).map(([repository, record]) => ({ repository, record }))
}

function draftRecord(
  { request, plan, place, warnings }: LogicalRun,
  { databases, objects, hasGlobals, dumpedBytes }: StoredParts,
  { name, keys }: Repository,
  startedAt: Date,
): LogicalDraft {
  const { server, programs, compressedBy } = plan
  const { selection, databases: choice } = request
  return {
    format: FORMAT,
    ...place,
    method: 'logical',
    form: request.whole ? 'script' : 'archives',
    label: request.label,
    systemIdentifier: server.systemIdentifier,
    bootstrapSuperuser: server.bootstrapSuperuser,
    postgres: { version: server.version, text: server.versionText },
    dumpVersion: programs.dump.majorVersion,
    fromStandby: server.inRecovery,
    hasGlobals,
    databases,
    ...(choice.include.length + choice.exclude.length > 0 && { choice: choiceOf(choice) }),
    ...(Object.keys(selection).length > 0 && { selection }),
    compressedBy,
    codec: formatCodec(request.codec),
    ...(keys.sealer && { recipients: [...keys.sealer.recipients] }),
    dumpedBytes,
    startedAt: startedAt.toISOString(),
    tool: request.tool,
    warnings,
    objects: objects.map(({ stored, facts }) => ({ ...stored[name]!, ...facts })),
  }
}

/** In the words of the record. */
function choiceOf({ include, exclude }: DatabaseChoice): NonNullable<LogicalDraft['choice']> {
  return {
    ...(include.length > 0 && { databases: [...include] }),
    ...(exclude.length > 0 && { excludeDatabases: [...exclude] }),
  }
}

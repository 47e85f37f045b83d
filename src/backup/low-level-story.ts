import { randomBytes } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Repository } from '../catalog/repository.ts'
import { statWalFile } from '../catalog/wal-object.ts'
import { withIncrementalLines } from '../postgres/backup-label.ts'
import { type BackupStart, reserveWal, startBackup } from '../postgres/low-level-backup.ts'
import { lsn } from '../postgres/lsn.ts'
import { relationFork } from '../postgres/relation-file.ts'
import type { Database, Server, ServerFacts } from '../postgres/server.ts'
import { historyName } from '../postgres/wal-file.ts'
import { pushWalFile } from '../wal/push.ts'
import { storeControlShard } from './closing-objects.ts'
import { type CopyResult, copyGroups } from './copy-pool.ts'
import { judgePages } from './damage.ts'
import type { ChangeSource } from './file-changes.ts'
import type { BackupRun, Taken } from './method.ts'
import { type Scan, scanCluster } from './scan.ts'
import type { StoredShard } from './shard.ts'
import { waitForWal } from './wait-for-wal.ts'

/** The steps that `files`, `snapshot` and `cold` share: all copy files, most between the start and the stop of a low-level backup. */

/**
 * Begins the backup on the server; a standalone one keeps the server's WAL from now on.
 * @returns the facts of the server as they are after the start: a tablespace that was made before it is in no WAL that the
 *   restore will replay
 */
export async function beginOnServer(
  run: BackupRun,
  server: Server,
): Promise<{ start: BackupStart; facts: ServerFacts; databases: Database[] }> {
  const start = await startOnServer(run, server, await server.facts())
  const facts = await server.facts()
  await keepHistory(run, facts, start.timeline)
  return { start, facts, databases: await server.databases() }
}

function startOnServer(run: BackupRun, server: Server, facts: ServerFacts): Promise<BackupStart> {
  const { request, events, id, signal } = run
  const fast = request.checkpoint === 'fast'
  const how = facts.inRecovery
    ? 'the next restartpoint'
    : fast
      ? 'a fast checkpoint'
      : 'the next spread checkpoint'
  events.emit('step', {
    text: `Starting backup ${id} of PostgreSQL ${facts.versionText.split(' ')[0]}; waiting for ${how}`,
  })
  const begin = async () => {
    if (request.standalone) await reserveWal(server, slotName(id))
    return startBackup(server, facts.version, { label: request.label || `pgrecall ${id}`, fast })
  }
  return orAborted(begin(), signal)
}

/** Unique: a run that goes on with another one's backup has the same id, and the server may not have seen the other one's end. */
function slotName(id: string): string {
  return `pgrecall_${id.replace(/\W/g, '_').toLowerCase()}_${randomBytes(4).toString('hex')}`
}

/** A spread checkpoint takes minutes, and whoever stops us does not wait for it: the closed session ends its backup. */
function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason)
    if (signal.aborted) onAbort()
    signal.addEventListener('abort', onAbort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort))
  })
}

/** Where the files of each group are read: in the cluster itself, or in a snapshot of it. */
export interface Places {
  dataDirectory: string
  tablespaces: readonly { oid: string; location: string }[]
}

/** What makes a copy other than one of the whole living cluster. */
export interface CopyRules {
  /** When the places are a snapshot: where the cluster itself is, and when it was made or a little earlier. */
  snapshot?: { live: Places; frozenAtMs: number }
  /** Of an incremental backup: what has changed. */
  changes?: ChangeSource | undefined
}

/**
 * Lists the files and copies all but those that an interrupted run has stored and that have not changed since.
 * @param start undefined when no server runs
 */
export async function copyCluster(
  run: BackupRun,
  facts: Taken['facts'],
  places: Places,
  start: BackupStart | undefined,
  { snapshot, changes }: CopyRules = {},
): Promise<CopyResult & { found: Scan; changes: ChangeSource | undefined }> {
  const { kept, events, store, request, signal } = run
  const roots = new Map([['base', places.dataDirectory]])
  for (const { oid, location } of places.tablespaces) roots.set(oid, location)
  if (start) await kept.settle(roots, start.lsn, signal)
  const { majorVersion, catalogVersion } = facts
  const found = await scanCluster({
    ...places,
    majorVersion,
    catalogVersion,
    isStored: changes?.leavesOutVisibilityMaps
      ? (group, path) => kept.isStored(group, path) || relationFork(path)?.fork === 'vm'
      : kept.isStored,
    signal,
  })
  for (const group of snapshot ? found.groups : []) {
    const space = snapshot!.live.tablespaces.find(({ oid }) => oid === group.name)
    group.liveRoot = space?.location ?? snapshot!.live.dataDirectory
  }
  if (kept.shards.length > 0) {
    events.emit('step', {
      text: `Going on from an interrupted backup: ${kept.shards.length} shards are kept`,
    })
  }
  const copied = await copyGroups(found.groups, {
    store,
    codec: request.codec,
    jobs: request.jobs,
    task: 'Copying',
    numbersTaken: kept.numbersTaken,
    ...(changes && { changes }),
    ...(snapshot && { frozenAtMs: snapshot.frozenAtMs }),
    ...(request.shardBytes !== undefined && { shardBytes: request.shardBytes }),
    ...(request.maxRate !== undefined && { maxRate: request.maxRate }),
    ...(facts.dataChecksums && {
      pages: {
        pageBytes: facts.blockBytes,
        blocksPerSegment: facts.relationSegmentBlocks,
        startLsn: start?.lsn,
      },
    }),
    events,
    signal,
  })
  if (copied.vanished.length > 0) {
    events.emit('detail', {
      text: `${copied.vanished.length} files were dropped while the cluster was copied`,
      facts: { vanished: copied.vanished },
    })
  }
  return { ...copied, found, changes, shards: [...kept.shards, ...copied.shards] }
}

/**
 * The whole cluster in shards: what was copied, `pg_control` behind it, and the WAL of a standalone backup.
 * @param control the bytes of `pg_control`
 */
export async function assemble(
  run: BackupRun,
  facts: Taken['facts'],
  copied: Awaited<ReturnType<typeof copyCluster>>,
  {
    ends,
    control,
    wal,
    databases,
  }: Pick<Taken, 'ends' | 'databases'> & { control: Buffer; wal: StoredShard[] },
): Promise<Taken> {
  const { shards, troubles, found, changes, changedBlocks, readBytes } = copied
  const { uid, gid } = await stat(facts.dataDirectory)
  const owner = { uid, gid }
  const controlShard = await storeControlShard(
    run,
    { label: labelOf(run, ends), control, owner },
    lastBaseShard(shards),
  )
  const judged = judgePages(troubles, ends.label === undefined ? undefined : ends.stop.lsn)
  return {
    facts,
    owner,
    ends,
    shards: [...shards, controlShard, ...wal],
    damaged: facts.dataChecksums ? judged.damaged : undefined,
    warnings: [...found.warnings, ...judged.warnings],
    ...(changes && {
      increment: {
        source: changes.name,
        ...(changes.reason !== undefined && { reason: changes.reason }),
        changedBlocks,
        readBytes,
      },
      withoutVisibilityMaps: changes.leavesOutVisibilityMaps,
    }),
    ...(databases && { databases }),
  }
}

/** Of an incremental backup it says upon what that builds, so that no server starts with it alone. */
function labelOf({ parent }: BackupRun, { label }: Taken['ends']): string | undefined {
  if (label === undefined || !parent) return label
  const { start, timeline } = parent.record
  return withIncrementalLines(label, { start: lsn(start.lsn), timeline })
}

/** The number of the last shard of the data directory so far. */
export function lastBaseShard(shards: readonly { group: string; name: string }[]): number {
  const numbers = shards
    .filter(({ group }) => group === 'base')
    .map(({ name }) => Number(/\.(\d+)\.tar/.exec(name)?.[1]))
  return Math.max(0, ...numbers)
}

/**
 * A server that was promoted before pgrecall was set up has archived its timeline's history elsewhere, or nowhere; without
 * it no recovery on that timeline begins.
 */
export async function keepHistory(
  run: BackupRun,
  { dataDirectory }: Taken['facts'],
  timeline: number,
): Promise<void> {
  const { store, request, signal } = run
  const { cluster } = request
  const name = historyName(timeline)
  if (timeline === 1) return
  const path = join(dataDirectory, 'pg_wal', name)
  await store.each(async (repository) => {
    if (await statWalFile(repository, cluster, name)) return
    await pushWalFile({ path, cluster, repositories: [{ ...repository, required: true }], level: 1, signal })
  })
}

/** Until every segment from start to stop is in every repository. */
export async function arrivalOfWal(run: BackupRun, { facts, ends }: Taken, server: Server): Promise<void> {
  const { request, store, events, signal } = run
  const { start, stop, timeline, fromStandby } = ends
  const names = store.repositories.map(({ name }) => `"${name}"`).join(' and ')
  events.emit('step', {
    text: `Waiting for WAL ${start.walFile} to ${stop.walFile} in repository ${names}`,
  })
  const wait = (repository: Repository) =>
    waitForWal(
      {
        cluster: request.cluster,
        repository,
        first: start.walFile,
        last: stop.walFile,
        timeline,
        segmentBytes: facts.walSegmentBytes,
        timeoutMs: request.archiveTimeoutMs,
        fromStandby,
      },
      { server, events, signal },
    )
  await store.each(wait, () => signal.throwIfAborted())
}

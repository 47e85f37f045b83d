import { join } from 'node:path'
import type { BackupObject, BackupRecord } from '../catalog/backup-record.ts'
import { backupPrefix, pathInCluster } from '../catalog/layout.ts'
import { addressOf } from '../catalog/open-repository.ts'
import type { Repository } from '../catalog/repository.ts'
import { isSealed } from '../catalog/sealed-object.ts'
import { PgrecallError } from '../errors.ts'
import type { Events } from '../events.ts'
import { FileSet } from '../reconstruction/file-set.ts'
import { unwrap } from '../threads/carried-error.ts'
import { runCrew, workerScript } from '../threads/crew.ts'
import { CONTROL_ASIDE, syncFolder } from './data-directory.ts'
import type { ExtractedShard, ExtractJob } from './extract-shard.ts'
import { COUNTER, type ExtractMessage, type ExtractWorkerData } from './extract-worker.ts'
import type { RestorePlan } from './plan.ts'
import { FilesystemSync } from './sync-filesystem.ts'

export interface ExtractOptions {
  repository: Repository
  jobs: number
  owner: { uid: number; gid: number } | undefined
  events: Events
  signal: AbortSignal
}

/** What was written. It may still be on its way to the disk: `syncExtracted` waits for that. */
export interface Extracted {
  /** The files that must be in the manifest. */
  files: FileSet
  /** Every folder that was made or filled, as full paths. */
  folders: Set<string>
  /** Undefined where each file is synced already. */
  filesystems: FilesystemSync | undefined
}

/** The disk is kept at work, so that little is left to wait for at the end. */
export const SYNC_BYTES = 512 * 1024 * 1024

/** Unpacks all shards of a backup, `jobs` side by side, each checked against its stored sum. */
export async function extractShards(plan: RestorePlan, options: ExtractOptions): Promise<Extracted> {
  const { backup } = plan
  const shards = backup.objects
    .filter((object) => object.kind === 'shard')
    .sort((a, b) => workOf(b) - workOf(a))
  const jobs = new Map(shards.map((shard) => [shard.name, jobOf(plan, shard)]))
  const queue = jobs.values()
  const counters = new BigInt64Array(new SharedArrayBuffer(3 * 8))
  const filesystems = await FilesystemSync.of(rootsOf(plan))
  const extracted: Extracted = { files: new FileSet(), folders: new Set(rootsOf(plan)), filesystems }
  let syncedBytes = 0
  const report = () => {
    const bytes = Number(Atomics.load(counters, COUNTER.bytes))
    options.events.emit('progress', {
      task: 'Restoring',
      bytes,
      total: backup.dataBytes + walBytes(backup),
      items: Number(Atomics.load(counters, COUNTER.files)),
    })
    if (bytes - syncedBytes < SYNC_BYTES) return
    filesystems?.start()
    syncedBytes = bytes
  }
  const data: ExtractWorkerData = {
    repository: await addressOf(
      options.repository,
      shards.some(({ name }) => isSealed(name)) ? 'read' : 'write',
    ),
    owner: options.owner,
    syncFiles: !filesystems,
    counters,
  }
  const timer = setInterval(report, 100)
  try {
    await runCrew(workerScript('extract-worker', import.meta.url), Math.min(options.jobs, shards.length), {
      data: () => data,
      onMessage: (message: ExtractMessage, worker, fail) => {
        if (message.kind === 'failed') fail(unwrap(message.error))
        else if (message.kind === 'next') worker.postMessage(queue.next().value)
        else keep(extracted, jobs.get(message.name)!.root, message.shard)
      },
      onStop: () => Atomics.store(counters, COUNTER.stop, 1n),
      signal: options.signal,
    })
    report()
  } finally {
    clearInterval(timer)
    options.events.emit('progressEnd', { task: 'Restoring' })
  }
  return extracted
}

/** Waits until everything below the target's folders is durable. */
export async function syncExtracted({ filesystems, folders }: Extracted): Promise<void> {
  if (filesystems) await filesystems.finish()
  else for (const folder of folders) await syncFolder(folder)
}

/** Writing and hashing the plain bytes takes most of the time, and the largest must not be begun last. */
const workOf = ({ plainBytes, bytes }: BackupObject) => (plainBytes ?? 0) + bytes

export const rootsOf = (plan: RestorePlan) => [plan.dataDirectory, ...plan.tablespaces.map(({ to }) => to)]

function jobOf(plan: RestorePlan, shard: BackupObject): ExtractJob {
  const { group } = shard
  const isTablespace = group !== undefined && /^\d+$/.test(group)
  return {
    key: backupPrefix(plan.backup.cluster, plan.backup.id) + shard.name,
    object: shard,
    root: isTablespace ? placeOf(plan, group) : plan.dataDirectory,
    prefix: pathInCluster(group ?? 'base', ''),
    renamed: isTablespace ? {} : { 'global/pg_control': CONTROL_ASIDE },
    closed: isTablespace ? [] : plan.tablespaces.map(({ oid }) => `pg_tblspc/${oid}`),
    isWal: group === 'wal',
  }
}

function placeOf(plan: RestorePlan, oid: string): string {
  const space = plan.tablespaces.find((candidate) => candidate.oid === oid)
  if (space) return space.to
  throw new PgrecallError(
    'damaged',
    `the record of backup ${plan.backup.id} does not name the tablespace ${oid}`,
  )
}

function keep(extracted: Extracted, root: string, shard: ExtractedShard): void {
  extracted.files.join(shard.files)
  for (const folder of shard.folders) extracted.folders.add(join(root, folder))
}

const walBytes = (backup: BackupRecord) =>
  backup.objects
    .filter((object) => object.group === 'wal')
    .reduce((sum, object) => sum + (object.plainBytes ?? 0), 0)

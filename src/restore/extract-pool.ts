import { join } from 'node:path'
import type { BackupRecord } from '../catalog/backup-record.ts'
import { backupPrefix } from '../catalog/layout.ts'
import { PgrecallError } from '../errors.ts'
import type { Events } from '../events.ts'
import type { Storage } from '../storage/storage.ts'
import { unwrap } from '../threads/carried-error.ts'
import { runCrew, workerScript } from '../threads/crew.ts'
import { CONTROL_ASIDE } from './data-directory.ts'
import {
  COUNTER,
  type ExtractedFile,
  type ExtractJob,
  type ExtractMessage,
  type ExtractWorkerData,
} from './extract-worker.ts'
import type { RestorePlan } from './plan.ts'

export interface ExtractOptions {
  storage: Storage
  jobs: number
  owner: { uid: number; gid: number } | undefined
  events: Events
  signal: AbortSignal
}

export interface Extracted {
  /** Files by their path in the cluster; files of a tablespace below `pg_tblspc/<oid>/`. */
  files: Map<string, ExtractedFile>
  /** Every folder that was made or filled, as full paths. */
  folders: Set<string>
}

/** Unpacks all shards of a backup, `jobs` side by side, each checked against its stored sum. */
export async function extractShards(plan: RestorePlan, options: ExtractOptions): Promise<Extracted> {
  const { backup } = plan
  const shards = backup.objects.filter((object) => object.kind === 'shard').sort((a, b) => b.bytes - a.bytes)
  const jobs = shards.map((shard) => jobOf(plan, shard)).values()
  const counters = new BigInt64Array(new SharedArrayBuffer(3 * 8))
  const extracted: Extracted = { files: new Map(), folders: new Set() }
  const groups = new Map(shards.map((shard) => [shard.name, shard.group ?? 'base']))
  const report = () =>
    options.events.emit('progress', {
      task: 'Restoring',
      bytes: Number(Atomics.load(counters, COUNTER.bytes)),
      total: backup.dataBytes + walBytes(backup),
      items: Number(Atomics.load(counters, COUNTER.files)),
    })
  const timer = setInterval(report, 100)
  try {
    await runCrew(workerScript('extract-worker', import.meta.url), Math.min(options.jobs, shards.length), {
      data: (): ExtractWorkerData => ({ address: options.storage.address, owner: options.owner, counters }),
      onMessage: (message: ExtractMessage, worker, fail) => {
        if (message.kind === 'failed') fail(unwrap(message.error))
        else if (message.kind === 'next') worker.postMessage(jobs.next().value)
        else keep(extracted, plan, groups.get(message.name)!, message)
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

function jobOf(plan: RestorePlan, shard: BackupRecord['objects'][number]): ExtractJob {
  const isTablespace = shard.group !== undefined && /^\d+$/.test(shard.group)
  return {
    key: backupPrefix(plan.backup.cluster, plan.backup.id) + shard.name,
    name: shard.name,
    bytes: shard.bytes,
    sha256: shard.sha256,
    root: isTablespace ? placeOf(plan, shard.group!) : plan.dataDirectory,
    renamed: isTablespace ? {} : { 'global/pg_control': CONTROL_ASIDE },
    closed: isTablespace ? [] : plan.tablespaces.map(({ oid }) => `pg_tblspc/${oid}`),
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

function keep(
  extracted: Extracted,
  plan: RestorePlan,
  group: string,
  message: { files: ExtractedFile[]; folders: string[] },
): void {
  const isTablespace = /^\d+$/.test(group)
  const root = isTablespace ? placeOf(plan, group) : plan.dataDirectory
  extracted.folders.add(root)
  for (const folder of message.folders) extracted.folders.add(join(root, folder))
  for (const file of message.files) {
    extracted.files.set(isTablespace ? `pg_tblspc/${group}/${file.path}` : file.path, file)
  }
}

const walBytes = (backup: BackupRecord) =>
  backup.objects
    .filter((object) => object.group === 'wal')
    .reduce((sum, object) => sum + (object.plainBytes ?? 0), 0)

import type { Codec } from '../archive/codec.ts'
import type { BackupStore } from '../backup/backup-store.ts'
import { storeControlShard, storeFolders } from '../backup/closing-objects.ts'
import { CONTROL_FILE } from '../backup/scan.ts'
import { type StoredShard, shardName } from '../backup/shard.ts'
import type { BackupRecord } from '../catalog/backup-record.ts'
import { pathInCluster } from '../catalog/layout.ts'
import { addressOf } from '../catalog/open-repository.ts'
import type { Repository } from '../catalog/repository.ts'
import { isSealed } from '../catalog/sealed-object.ts'
import { PgrecallError } from '../errors.ts'
import type { Events } from '../events.ts'
import { finalFiles } from '../reconstruction/final-files.ts'
import type { BaseShard, Reconstruction } from '../reconstruction/reconstruction.ts'
import { unwrap } from '../threads/carried-error.ts'
import { runCrew, workerScript } from '../threads/crew.ts'
import { COUNTER, type RewriteData, type RewriteJob, type RewriteMessage } from './rewrite-job.ts'

export interface RewriteOptions {
  store: BackupStore
  codec: Codec
  jobs: number
  repository: Repository
  events: Events
  signal: AbortSignal
}

const TASK = 'Consolidating'
/** What stands alone in the last shard, in this order; see storeControlShard. */
const LAST = ['backup_label', CONTROL_FILE]

/**
 * Writes the files of a chain's newest link into new shards: one for each shard that has some whole, by threads side by
 * side, and as always the label and `pg_control` in the last one.
 * @returns all shards, in the order of a restore by hand
 */
export async function rewriteShards(
  reconstruction: Reconstruction,
  newest: BackupRecord,
  options: RewriteOptions,
): Promise<StoredShard[]> {
  const { store, codec, repository, events, signal } = options
  const { shards } = reconstruction
  const numbers = new Map<string, number>()
  const nextName = (group: string) => {
    numbers.set(group, (numbers.get(group) ?? 0) + 1)
    return shardName(group, numbers.get(group)!, codec)
  }
  const stored: StoredShard[] = []
  for (const group of new Set(['base', ...newest.tablespaces.map(({ oid }) => oid)])) {
    const prefix = pathInCluster(group, '')
    const folders = reconstruction.folders
      .filter(({ path }) => isInGroup(path, group))
      .map(({ path, mode }) => ({ path: path.slice(prefix.length), mode }))
    if (folders.length > 0)
      stored.push(
        await storeFolders({ store, request: { codec } }, nextName(group), group, folders, newest.owner),
      )
  }
  const bases = basesOf(reconstruction, (path) => !LAST.includes(path))
  const counters = new BigInt64Array(new SharedArrayBuffer(3 * 8))
  const data: RewriteData = {
    repository: await addressOf(
      repository,
      shards.some(({ object }) => isSealed(object.name)) ? 'read' : 'write',
    ),
    store: await store.address(),
    codec,
    shards,
    counters,
  }
  const total = reconstruction.bytes
  const report = () =>
    events.emit('progress', {
      task: TASK,
      bytes: Number(Atomics.load(counters, COUNTER.bytes)),
      total,
      items: Number(Atomics.load(counters, COUNTER.files)),
    })
  const jobOf = (base: BaseShard | undefined): RewriteJob | undefined => {
    if (!base) return undefined
    const { group } = shards[base.shard]!
    return { base, group, name: nextName(group) }
  }
  const timer = setInterval(report, 100)
  try {
    await runCrew(workerScript('rewrite-worker', import.meta.url), options.jobs, {
      data: () => data,
      onMessage: (message: RewriteMessage, worker, fail) => {
        if (message.kind === 'failed') fail(unwrap(message.error))
        else if (message.kind === 'stored') stored.push(message.shard)
        else worker.postMessage(jobOf(bases.next().value))
      },
      onStop: () => Atomics.store(counters, COUNTER.stop, 1n),
      signal,
    })
    report()
  } finally {
    clearInterval(timer)
    events.emit('progressEnd', { task: TASK })
  }
  stored.sort((a, b) => (a.name < b.name ? -1 : 1))
  const [label, control] = await lastFiles(reconstruction, repository)
  const run = { store, request: { codec } }
  const last = await storeControlShard(
    run,
    { label: label.toString(), control, owner: newest.owner },
    numbers.get('base') ?? 0,
  )
  return [...stored, last]
}

/** A folder of a tablespace is below the link of the tablespace, which is itself no folder of the cluster. */
function isInGroup(path: string, group: string): boolean {
  const space = /^pg_tblspc\/(\d+)\//.exec(path)?.[1]
  return (space ?? 'base') === group
}

/** The shards to read, with only those of their members that are wanted; of tablespaces all are paths of other files. */
function* basesOf(reconstruction: Reconstruction, isWanted: (path: string) => boolean): Generator<BaseShard> {
  for (const { shard, members } of reconstruction.baseShards()) {
    const wanted = members.filter(({ path }) => isWanted(path))
    if (wanted.length > 0) yield { shard, members: wanted }
  }
}

async function lastFiles(reconstruction: Reconstruction, repository: Repository): Promise<[Buffer, Buffer]> {
  const found = new Map<string, Buffer>()
  for (const base of basesOf(reconstruction, (path) => LAST.includes(path))) {
    for await (const file of finalFiles(base, reconstruction.shards, repository)) {
      found.set(
        file.path,
        Buffer.concat(await Array.fromAsync(file.content(), (piece) => Buffer.from(piece))),
      )
    }
  }
  const [label, control] = LAST.map((path) => found.get(path))
  if (!label || !control)
    throw new PgrecallError('damaged', `the newest link has no ${label ? CONTROL_FILE : 'backup_label'}`)
  return [label, control]
}

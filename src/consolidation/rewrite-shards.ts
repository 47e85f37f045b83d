import type { Codec } from '../archive/codec.ts'
import type { BackupStore } from '../backup/backup-store.ts'
import { storeControlShard, storeFolders } from '../backup/closing-objects.ts'
import { CONTROL_FILE } from '../backup/scan.ts'
import { type StoredShard, shardName } from '../backup/shard.ts'
import type { BackupRecord } from '../catalog/backup-record.ts'
import { addressOf } from '../catalog/open-repository.ts'
import type { Repository } from '../catalog/repository.ts'
import { isSealed } from '../catalog/sealed-object.ts'
import { PgrecallError } from '../errors.ts'
import type { Events } from '../events.ts'
import { finalFiles } from '../reconstruction/final-files.ts'
import type { Reconstruction } from '../reconstruction/reconstruction.ts'
import { unwrap } from '../threads/carried-error.ts'
import { runCrew, workerScript } from '../threads/crew.ts'
import { basesOf, type NewShard, newShards } from './new-shards.ts'
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
 * Writes the files of a chain's newest link into new shards, by threads side by side, and as always its folders first, and the
 * label and `pg_control` last. So is the WAL of a standalone backup.
 * @returns all shards, in the order of a restore by hand
 */
export async function rewriteShards(
  reconstruction: Reconstruction,
  newest: BackupRecord,
  options: RewriteOptions,
): Promise<StoredShard[]> {
  const names = new ShardNames(options.codec)
  const folders = await writeFolders(reconstruction, newest, names, options)
  const files = await writeFiles(reconstruction, names, options)
  const last = await writeLast(reconstruction, newest, names, options)
  return [...folders, ...files, last]
}

/** Numbers the shards of each group. */
class ShardNames {
  readonly #codec: Codec
  readonly #counts = new Map<string, number>()

  constructor(codec: Codec) {
    this.#codec = codec
  }

  next(group: string): string {
    const number = this.count(group) + 1
    this.#counts.set(group, number)
    return shardName(group, number, this.#codec)
  }

  count(group: string): number {
    return this.#counts.get(group) ?? 0
  }
}

async function writeFolders(
  { folders }: Reconstruction,
  { owner }: BackupRecord,
  names: ShardNames,
  { store, codec }: RewriteOptions,
): Promise<StoredShard[]> {
  const stored: StoredShard[] = []
  for (const [group, its] of Map.groupBy(folders, ({ group }) => group))
    stored.push(await storeFolders({ store, request: { codec } }, names.next(group), group, its, owner))
  return stored
}

async function writeFiles(
  reconstruction: Reconstruction,
  names: ShardNames,
  { store, codec, jobs, repository, events, signal }: RewriteOptions,
): Promise<StoredShard[]> {
  const { shards, bytes: total } = reconstruction
  const counters = new BigInt64Array(new SharedArrayBuffer(3 * 8))
  const isAnySealed = shards.some(({ object }) => isSealed(object.name))
  const data: Omit<RewriteData, 'store'> = {
    repository: await addressOf(repository, isAnySealed ? 'read' : 'write'),
    codec,
    shards,
    counters,
  }
  const address = await store.address()
  // Each thread fails by itself, so that what is told is why the first one did.
  const ownStore = () => ({ ...address, lost: new Int32Array(new SharedArrayBuffer(4)) })
  const report = () => {
    const [bytes, items] = [COUNTER.bytes, COUNTER.files].map((at) => Number(Atomics.load(counters, at)))
    events.emit('progress', { task: TASK, bytes: bytes!, total, items: items! })
  }
  const named = (shard: NewShard | undefined): RewriteJob | undefined =>
    shard && { parts: shard.parts, group: shard.group, name: names.next(shard.group) }
  const waiting = newShards(reconstruction, (path) => !LAST.includes(path))
  const stored: StoredShard[] = []
  const timer = setInterval(report, 100)
  try {
    await runCrew(workerScript('rewrite-worker', import.meta.url), jobs, {
      data: () => ({ ...data, store: ownStore() }),
      onMessage: (message: RewriteMessage, worker, fail) => {
        if (message.kind === 'failed') fail(unwrap(message.error))
        else if (message.kind === 'stored') stored.push(message.shard)
        else worker.postMessage(named(waiting.next().value))
      },
      onStop: () => Atomics.store(counters, COUNTER.stop, 1n),
      signal,
    })
    report()
  } finally {
    clearInterval(timer)
    events.emit('progressEnd', { task: TASK })
  }
  return stored.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }))
}

async function writeLast(
  reconstruction: Reconstruction,
  { id, owner }: BackupRecord,
  names: ShardNames,
  { store, codec, repository }: RewriteOptions,
): Promise<StoredShard> {
  const found = new Map<string, Buffer>()
  for (const base of basesOf(reconstruction, (path) => LAST.includes(path))) {
    for await (const file of finalFiles(base, reconstruction.shards, repository)) {
      const pieces = await Array.fromAsync(file.content(), (piece) => Buffer.from(piece))
      found.set(file.path, Buffer.concat(pieces))
    }
  }
  const [label, control] = LAST.map((path) => found.get(path))
  if (!label || !control)
    throw new PgrecallError('damaged', `backup ${id} has no ${label ? CONTROL_FILE : 'backup_label'}`)
  const content = { label: label.toString(), control, owner }
  return storeControlShard({ store, request: { codec } }, content, names.count('base'))
}

import { MessageChannel, type MessagePort, type Worker } from 'node:worker_threads'
import type { Codec } from '../archive/codec.ts'
import { pathInCluster } from '../catalog/layout.ts'
import type { Events } from '../events.ts'
import { unwrap } from '../threads/carried-error.ts'
import { runCrew, workerScript } from '../threads/crew.ts'
import type { BackupStore } from './backup-store.ts'
import {
  COUNTER,
  COUNTERS,
  type CopyAnswer,
  type CopyItem,
  type CopyJob,
  type CopyRequest,
  type CopyWorkerData,
} from './copy-job.ts'
import type { CopyMessage, CopyOrder } from './copy-worker.ts'
import type { ChangeSource, FileChange } from './file-changes.ts'
import type { PageRules, PageTrouble } from './page-check.ts'
import type { SourceGroup } from './scan.ts'
import { type StoredShard, shardBytesFor, shardName } from './shard.ts'
import type { SourceItem } from './source-list.ts'

/** A worker takes one large file, or small ones up to this many bytes and files, at a time. */
const BATCH_BYTES = 16 * 1024 * 1024
const BATCH_ITEMS = 500
export interface CopyOptions {
  store: BackupStore
  codec: Codec
  jobs: number
  task: string
  /** Plain bytes after which a shard is closed; chosen by the size of the whole when left out. */
  shardBytes?: number
  /** Numbers of shards of the same group that are taken already. */
  numbersTaken?: ReadonlyMap<string, number>
  /** Plain bytes a second; no limit when left out. */
  maxRate?: number
  /** How the pages of relations are checked; left out where they have no checksums. */
  pages?: PageRules
  /** When the files stood still, if they are a snapshot's; milliseconds since 1970. */
  frozenAtMs?: number
  /** Of an incremental backup: what has changed in the files. */
  changes?: ChangeSource
  events: Events
  signal: AbortSignal
}

export interface CopyResult {
  shards: StoredShard[]
  /** Files that were dropped between the listing and the copy. */
  vanished: string[]
  /** Pages whose checksum is wrong, by file. */
  troubles: PageTrouble[]
  /** Plain bytes that were read, and blocks that went into incremental files. */
  readBytes: number
  changedBlocks: number
}

/** Copies groups of files into shards, with `jobs` threads that each fill one shard at a time. */
export async function copyGroups(groups: readonly SourceGroup[], options: CopyOptions): Promise<CopyResult> {
  const result: CopyResult = { shards: [], vanished: [], troubles: [], readBytes: 0, changedBlocks: 0 }
  const counters = new BigInt64Array(new SharedArrayBuffer(COUNTERS * 8))
  const { changes } = options
  const total = groups.reduce((sum, group) => sum + bytesToRead(group, changes), 0)
  const shardBytes = options.shardBytes ?? shardBytesFor(total)
  const batchBytes = Math.min(BATCH_BYTES, shardBytes)
  const queues = groups.map(
    (group) => new Queue(group, batchBytes, options.numbersTaken?.get(group.name) ?? 0, changes),
  )
  const largestFirst = () =>
    queues.filter((queue) => queue.hasMore).sort((a, b) => b.bytesLeft - a.bytesLeft)[0]

  const store = await options.store.address()
  const busy = new Helped<Worker>()
  const answer = (message: CopyRequest, worker: Worker): CopyAnswer => {
    if (message.kind === 'items') return queues.find((queue) => queue.group.name === message.group)?.next()
    busy.remove(worker)
    if (Atomics.load(counters, COUNTER.stop) !== 0n) return undefined
    const job = largestFirst()?.openShard(options.codec)
    if (job) busy.add(worker)
    return job ?? helpTo(options.codec.method === 'none' ? undefined : busy.next())
  }
  const report = () =>
    options.events.emit('progress', {
      task: options.task,
      bytes: Number(Atomics.load(counters, COUNTER.bytes)),
      total,
      items: Number(Atomics.load(counters, COUNTER.files)),
    })
  const timer = setInterval(report, 100)
  try {
    await runCrew(workerScript('copy-worker', import.meta.url), options.jobs, {
      data: (): CopyWorkerData => ({
        store,
        codec: options.codec,
        shardBytes,
        maxRate: options.maxRate,
        pages: options.pages,
        blockBytes: changes?.blockBytes,
        frozenAtMs: options.frozenAtMs,
        counters,
      }),
      onMessage: (message: CopyMessage, worker, fail) => {
        if (message.kind === 'failed') fail(unwrap(message.error))
        else if (message.kind === 'lost') options.store.tell(message.repository, unwrap(message.error))
        else if (message.kind === 'stored') {
          result.shards.push(message.shard)
          result.vanished.push(...message.vanished)
          result.troubles.push(...message.troubles.map((trouble) => inCluster(message.shard.group, trouble)))
        } else {
          const reply = answer(message, worker)
          const ports = reply && 'help' in reply ? [reply.help] : []
          worker.postMessage({ answer: reply } satisfies CopyOrder, ports)
        }
      },
      onStop: () => Atomics.store(counters, COUNTER.stop, 1n),
      signal: options.signal,
    })
    report()
  } finally {
    clearInterval(timer)
    options.events.emit('progressEnd', { task: options.task })
  }
  requireComplete(queues, result)
  result.readBytes = Number(Atomics.load(counters, COUNTER.bytes))
  result.changedBlocks = Number(Atomics.load(counters, COUNTER.blocks))
  result.shards.sort((a, b) => (a.name < b.name ? -1 : 1))
  return result
}

/** About how much of a group will be read, for the progress and the size of shards. */
function bytesToRead({ name, items }: SourceGroup, changes: ChangeSource | undefined): number {
  if (!changes) return items.bytes
  let bytes = 0
  for (const { path, size, directory } of items) {
    if (!directory) bytes += expectedBytes(changes.of(name, path), size, changes.blockBytes)
  }
  return bytes
}

function expectedBytes(change: FileChange | undefined, size: number, blockBytes: number): number {
  if (change?.kind !== 'blocks') return change?.unlessStill?.size === size ? 0 : size
  const { blocks, limit } = change
  const tail = limit === undefined ? 0 : Math.max(0, size - limit * blockBytes)
  return Math.min(size, blocks.length * blockBytes + tail)
}

/** Who is filling a shard, and how many threads were sent to help. */
class Helped<Key> {
  readonly #helpers = new Map<Key, number>()

  add(key: Key): void {
    this.#helpers.set(key, 0)
  }

  remove(key: Key): void {
    this.#helpers.delete(key)
  }

  /** The one with the fewest helpers, which has one more from now on. */
  next(): Key | undefined {
    const [least] = [...this.#helpers].sort(([, a], [, b]) => a - b)
    if (least) this.#helpers.set(least[0], least[1] + 1)
    return least?.[0]
  }
}

/** One slow file must not leave all other threads idle: they compress for the one that reads it. */
function helpTo(worker: Worker | undefined): { help: MessagePort } | undefined {
  if (!worker) return undefined
  const { port1, port2 } = new MessageChannel()
  worker.postMessage({ helper: port1 } satisfies CopyOrder, [port1])
  return { help: port2 }
}

/** Whatever goes wrong in a thread, a copy never has a hole that nobody knows of. */
function requireComplete(queues: readonly Queue[], { shards, vanished }: CopyResult): void {
  const dealt = queues.reduce((sum, queue) => sum + queue.dealt, 0)
  const done = shards.reduce((sum, shard) => sum + shard.members, vanished.length)
  if (queues.some((queue) => queue.hasMore) || dealt !== done)
    throw new Error(`${dealt} files were to be copied, ${done} were`)
}

function inCluster(group: string, trouble: PageTrouble): PageTrouble {
  return { ...trouble, path: pathInCluster(group, trouble.path) }
}

/** What is left to copy of one group. */
class Queue {
  readonly group: SourceGroup
  bytesLeft: number
  /** How many items were handed out. */
  dealt = 0
  readonly #batchBytes: number
  readonly #items: Iterator<SourceItem>
  #ahead: SourceItem | undefined
  readonly #changes: ChangeSource | undefined
  #shards: number

  constructor(group: SourceGroup, batchBytes: number, shards: number, changes: ChangeSource | undefined) {
    this.group = group
    this.#changes = changes
    this.#batchBytes = batchBytes
    this.bytesLeft = group.items.bytes
    this.#items = group.items[Symbol.iterator]()
    this.#ahead = this.#items.next().value
    this.#shards = shards
  }

  get hasMore(): boolean {
    return this.#ahead !== undefined
  }

  openShard(codec: Codec): CopyJob | undefined {
    const answer = this.next()
    return answer && { ...answer, name: shardName(this.group.name, ++this.#shards, codec) }
  }

  next(): CopyJob | undefined {
    const items: CopyItem[] = []
    for (let bytes = 0; this.#ahead && items.length < BATCH_ITEMS; this.#ahead = this.#items.next().value) {
      if (items.length > 0 && bytes + this.#ahead.size > this.#batchBytes) break
      items.push(this.#withChange(this.#ahead))
      bytes += this.#ahead.size
      this.bytesLeft -= this.#ahead.size
    }
    this.dealt += items.length
    const { name: group, root, liveRoot } = this.group
    return items.length > 0 ? { name: '', group, root, liveRoot, items } : undefined
  }

  #withChange(item: SourceItem): CopyItem {
    const change = item.directory ? undefined : this.#changes?.of(this.group.name, item.path)
    return change ? { ...item, change } : item
  }
}

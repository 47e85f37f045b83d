import type { Codec } from '../archive/codec.ts'
import { codecSuffix } from '../archive/codec.ts'
import type { Events } from '../events.ts'
import type { Storage } from '../storage/storage.ts'
import { unwrap } from '../threads/carried-error.ts'
import { runCrew, workerScript } from '../threads/crew.ts'
import { COUNTER, type CopyAnswer, type CopyMessage, type CopyWorkerData } from './copy-worker.ts'
import type { SourceGroup, SourceItem } from './scan.ts'
import type { StoredShard } from './shard.ts'

/** Plain bytes after which a shard is closed: many shards keep many readers and writers busy. */
const SHARD_BYTES = 1024 * 1024 * 1024
/** A worker takes one large file, or small ones up to this many bytes and files, at a time. */
const BATCH_BYTES = 16 * 1024 * 1024
const BATCH_ITEMS = 500

export interface CopyOptions {
  storage: Storage
  folder: string
  codec: Codec
  jobs: number
  task: string
  events: Events
  signal: AbortSignal
}

export interface CopyResult {
  shards: StoredShard[]
  /** Files that were dropped between the listing and the copy. */
  vanished: string[]
}

/** Copies groups of files into shards, with `jobs` threads that each fill one shard at a time. */
export async function copyGroups(groups: readonly SourceGroup[], options: CopyOptions): Promise<CopyResult> {
  const queues = groups.map((group) => new Queue(group))
  const result: CopyResult = { shards: [], vanished: [] }
  const counters = new BigInt64Array(new SharedArrayBuffer(3 * 8))
  const total = groups.reduce((sum, group) => sum + group.bytes, 0)
  const largestFirst = () =>
    queues.filter((queue) => queue.hasMore).sort((a, b) => b.bytesLeft - a.bytesLeft)[0]

  const answer = (message: Extract<CopyMessage, { kind: 'shard' | 'items' }>): CopyAnswer => {
    if (message.kind === 'shard') return largestFirst()?.openShard(options.codec)
    return queues.find((queue) => queue.group.name === message.group)?.next()
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
        address: options.storage.address,
        folder: options.folder,
        codec: options.codec,
        shardBytes: SHARD_BYTES,
        counters,
      }),
      onMessage: (message: CopyMessage, worker, fail) => {
        if (message.kind === 'failed') fail(unwrap(message.error))
        else if (message.kind === 'stored') {
          result.shards.push(message.shard)
          result.vanished.push(...message.vanished)
        } else worker.postMessage(answer(message))
      },
      onStop: () => Atomics.store(counters, COUNTER.stop, 1n),
      signal: options.signal,
    })
    report()
  } finally {
    clearInterval(timer)
    options.events.emit('progressEnd', { task: options.task })
  }
  result.shards.sort((a, b) => (a.name < b.name ? -1 : 1))
  return result
}

/** What is left to copy of one group. */
class Queue {
  readonly group: SourceGroup
  bytesLeft: number
  #at = 0
  #shards = 0

  constructor(group: SourceGroup) {
    this.group = group
    this.bytesLeft = group.bytes
  }

  get hasMore(): boolean {
    return this.#at < this.group.items.length
  }

  openShard(codec: Codec): CopyAnswer {
    const answer = this.next()
    return answer && { ...answer, name: shardName(this.group.name, ++this.#shards, codec) }
  }

  next(): CopyAnswer {
    const items: SourceItem[] = []
    for (let bytes = 0; this.hasMore && items.length < BATCH_ITEMS && bytes < BATCH_BYTES; this.#at++) {
      const item = this.group.items[this.#at]!
      if (items.length > 0 && bytes + item.size > BATCH_BYTES) break
      items.push(item)
      bytes += item.size
      this.bytesLeft -= item.size
    }
    return items.length > 0 ? { name: '', group: this.group.name, root: this.group.root, items } : undefined
  }
}

/** `base.0001.tar.zst` */
export function shardName(group: string, number: number, codec: Codec): string {
  return `${group}.${String(number).padStart(4, '0')}.tar${codecSuffix(codec)}`
}

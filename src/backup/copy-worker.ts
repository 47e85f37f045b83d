import { createHash } from 'node:crypto'
import { closeSync, fstatSync, lstatSync, openSync, readSync, type Stats } from 'node:fs'
import { join } from 'node:path'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import type { Codec } from '../archive/codec.ts'
import { fsPath } from '../archive/file-name.ts'
import { FRAME_BYTES, type ShardWriter } from '../archive/shard-writer.ts'
import type { TarMember } from '../archive/tar.ts'
import { systemCode } from '../errors.ts'
import { openStorage } from '../storage/open.ts'
import type { StorageAddress } from '../storage/storage.ts'
import { type Carried, carry } from '../threads/carried-error.ts'
import { type SourceItem, unreadable } from './scan.ts'
import { type CopiedFile, type StoredShard, storeShard } from './shard.ts'

/** What a copying thread is started with. */
export interface CopyWorkerData {
  address: StorageAddress
  /** The backup's folder in the repository, ending in `/`. */
  folder: string
  codec: Codec
  /** A shard is closed when its plain bytes reach this. */
  shardBytes: number
  /** Shared counters: bytes read, files done, and whether to stop. */
  counters: BigInt64Array<SharedArrayBuffer>
}

export const COUNTER = { bytes: 0, files: 1, stop: 2 } as const

/** A worker asks, the main thread answers: for a new shard, or for more items of the open one's group. */
export type CopyRequest = { kind: 'shard' } | { kind: 'items'; group: string }
export type CopyAnswer = { name: string; group: string; root: string; items: SourceItem[] } | undefined
export type CopyMessage =
  | CopyRequest
  | { kind: 'stored'; shard: StoredShard; vanished: string[] }
  | { kind: 'failed'; error: Carried }

/** Fills shards until there is nothing left to copy. */
async function copy(port: MessagePort, data: CopyWorkerData): Promise<void> {
  const storage = openStorage(data.address)
  const buffer = Buffer.allocUnsafeSlow(FRAME_BYTES)
  const ask = (request: CopyRequest) =>
    new Promise<CopyAnswer>((resolve) => {
      port.once('message', resolve)
      port.postMessage(request)
    })

  for (let job = await ask({ kind: 'shard' }); job; job = await ask({ kind: 'shard' })) {
    const { name, group, root } = job
    const vanished: string[] = []
    const fill = async function* (writer: ShardWriter, files: CopiedFile[]) {
      for (let items: SourceItem[] | undefined = job!.items; items; ) {
        for (const item of items) yield* copyItem(writer, root, item, files, vanished, data.counters)
        items = writer.plainBytes < data.shardBytes ? (await ask({ kind: 'items', group }))?.items : undefined
      }
    }
    const shard = await storeShard(storage, data.folder, { name, group, codec: data.codec }, fill, { buffer })
    port.postMessage({ kind: 'stored', shard, vanished } satisfies CopyMessage)
  }
}

function* copyItem(
  writer: ShardWriter,
  root: string,
  item: SourceItem,
  files: CopiedFile[],
  vanished: string[],
  counters: BigInt64Array,
): Generator<Buffer> {
  const path = join(root, item.path)
  if (item.directory) {
    // A database or a tablespace may be dropped between the listing and the copy.
    const facts = lstatSync(fsPath(path), { throwIfNoEntry: false })
    if (facts) yield* writer.member(memberOf(item.path, facts, true))
    else vanished.push(item.path)
    return
  }
  const file = openIfPresent(path)
  if (file === undefined) {
    vanished.push(item.path)
    return
  }
  try {
    const facts = fstatSync(file)
    const sum = createHash('sha256')
    let position = 0
    const fill = (room: Buffer) => {
      if (Atomics.load(counters, COUNTER.stop) !== 0n) throw new Error('the copy was stopped')
      let read = readSync(file, room, 0, room.length, position)
      if (read === 0) {
        // Truncated while it was read. Its end becomes zeros, as in PostgreSQL's own base backup; replay repeats
        // the truncation.
        room.fill(0)
        read = room.length
      }
      sum.update(room.subarray(0, read))
      position += read
      Atomics.add(counters, COUNTER.bytes, BigInt(read))
      return read
    }
    const offset = yield* writer.member(memberOf(item.path, facts, false), fill)
    files.push({
      path: item.path,
      size: facts.size,
      modifiedMs: facts.mtimeMs,
      sha256: sum.digest('hex'),
      offset,
    })
    Atomics.add(counters, COUNTER.files, 1n)
  } finally {
    closeSync(file)
  }
}

function openIfPresent(path: string): number | undefined {
  try {
    return openSync(fsPath(path), 'r')
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw unreadable(path, error)
  }
}

function memberOf(path: string, facts: Stats, directory: boolean): TarMember {
  return {
    path,
    type: directory ? 'directory' : 'file',
    size: directory ? 0 : facts.size,
    // An emptied folder can be a link in the source, whose own mode says nothing.
    mode: directory && !facts.isDirectory() ? 0o700 : facts.mode & 0o7777,
    mtime: facts.mtimeMs / 1000,
    uid: facts.uid,
    gid: facts.gid,
  }
}

if (parentPort) {
  const port = parentPort
  copy(port, workerData as CopyWorkerData)
    .catch((error) => port.postMessage({ kind: 'failed', error: carry(error) } satisfies CopyMessage))
    .finally(() => port.close())
}

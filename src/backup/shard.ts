import { type Codec, codecSuffix, formatCodec, releaseMemory } from '../archive/codec.ts'
import { FramePress, type PressHelper } from '../archive/frame-press.ts'
import { FRAME_BYTES, ShardWriter } from '../archive/shard-writer.ts'
import {
  type CopiedFile,
  indexName,
  type ShardFacts,
  type ShardHead,
  ShardIndex,
} from '../catalog/shard-index.ts'
import type { BackupStore, StoredIn } from './backup-store.ts'

/** A shard that is durable, with its index, in every repository that was not given up meanwhile. */
export interface StoredShard extends ShardFacts {
  /** What it is called where it is not encrypted. */
  name: string
  stored: StoredIn
  index: StoredIn
}

/** What a filler is given: it writes members, hands on the frames, and tells of the files that it wrote. */
export interface OpenShard {
  writer: ShardWriter
  /** How many files it has so far. */
  readonly files: number
  /**
   * @param isSettled whether its size and time will tell if it changes after the copy, so that a backup which is interrupted
   *   may keep it
   */
  add(file: CopiedFile, isSettled: boolean): void
}

export type ShardFiller = (shard: OpenShard) => AsyncIterable<Buffer> | Iterable<Buffer>

/** A shard is closed when it has as many files, so that neither its index nor the loss of it is large. */
export const SHARD_FILES = 50_000
const LARGEST_SHARD = 1024 * 1024 * 1024
const SMALLEST_SHARD = 64 * 1024 * 1024
const SHARDS_WANTED = 32

/**
 * Stores one shard, in one pass: frames go out as they fill, sums are taken on the way. Then its index.
 * @param options `buffer` is reused between shards, one frame long; `onDrained` is called when it may be reused,
 *   while what was written is still on its way to the disk;
 *   `helpers` compress too, while they are there
 */
export async function storeShard(
  store: BackupStore,
  shard: { name: string; group: string; codec: Codec },
  fill: ShardFiller,
  options: {
    buffer?: Buffer
    helpers?: readonly PressHelper[]
    signal?: AbortSignal
    onDrained?: () => void
  } = {},
): Promise<StoredShard> {
  const { name, group, codec } = shard
  const writer = new ShardWriter(options.buffer)
  const press = new FramePress(codec, options.helpers)
  const index = new ShardIndex(codec)
  let unsettled = 0
  const open: OpenShard = {
    writer,
    get files() {
      return index.files
    },
    add: (file, isSettled) => {
      index.add(file)
      if (!isSettled) unsettled++
    },
  }
  const frames = async function* () {
    yield* fill(open)
    yield* writer.finish()
  }
  const pressed = async function* () {
    for await (const frame of press.press(frames())) {
      yield frame
      if (codec.method !== 'none') releaseMemory(frame)
    }
    options.onDrained?.()
  }
  const putOptions = options.signal ? { signal: options.signal } : {}
  const stored = await store.put(name, pressed(), putOptions)
  const { files, fileBytes } = index
  const { plainBytes, members } = writer
  const facts = { group, plainBytes, members, files, fileBytes }
  const headIn = (repository: string): ShardHead => {
    const { name: shard, ...object } = stored[repository]!
    return {
      shard,
      ...facts,
      ...object,
      run: store.token,
      repositories: store.names,
      codec: formatCodec(codec),
      frameBytes: FRAME_BYTES,
      frames: press.offsets,
      folders: writer.folders,
      unsettled,
    }
  }
  const storedIndex = await store.putEach(
    indexName(name, codec),
    (repository) => index.finish(headIn(repository.name)),
    { ...putOptions, isIndex: true },
  )
  return { name, ...facts, stored, index: storedIndex }
}

/** Stores shards one after the other: while one is on its way to the disk, the next is filled from the same buffer. */
export class ShardLine {
  #closing: Promise<void> | undefined

  /**
   * Resolves when the buffer is free again.
   * @param store stores a shard, and calls what it is given when it has read the buffer for the last time
   */
  async add(store: (onDrained: () => void) => Promise<void>): Promise<void> {
    const drained = Promise.withResolvers<void>()
    const stored = store(drained.resolve)
    // It is awaited below or in the next turn; a failure until then is no unhandled one.
    stored.catch(() => {})
    await Promise.race([drained.promise, stored])
    await this.#closing
    this.#closing = stored
  }

  /** Waits until all shards are durable. */
  async end(): Promise<void> {
    await this.#closing
  }
}

/** `base.0001.tar.zst` */
export function shardName(group: string, number: number, codec: Codec): string {
  return `${group}.${String(number).padStart(4, '0')}.tar${codecSuffix(codec)}`
}

/**
 * Plain bytes after which a shard is closed: those of a small cluster are smaller, so that a restore can share them out
 * evenly.
 * @param total plain bytes of the whole backup
 */
export function shardBytesFor(total: number): number {
  return Math.min(LARGEST_SHARD, Math.max(SMALLEST_SHARD, Math.ceil(total / SHARDS_WANTED)))
}

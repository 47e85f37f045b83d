import { createHash } from 'node:crypto'
import type { Codec } from '../archive/codec.ts'
import { ShardWriter } from '../archive/shard-writer.ts'
import type { Storage } from '../storage/storage.ts'

/** A file as it is in a shard. */
export interface CopiedFile {
  /** Relative to its group's root. */
  path: string
  size: number
  modifiedMs: number
  /** SHA-256 of the content, hexadecimal. */
  sha256: string
  /** Where the content begins in the shard's tar stream. */
  offset: number
}

/** A shard that is durable in the repository. */
export interface StoredShard {
  /** The object's name in the backup's folder. */
  name: string
  group: string
  bytes: number
  /** Of the stored bytes. */
  sha256: string
  plainBytes: number
  members: number
  frameOffsets: number[]
  files: CopiedFile[]
}

/** What fills a shard: it writes members and hands on the frames, and lists the files that it wrote. */
export type ShardFiller = (
  writer: ShardWriter,
  files: CopiedFile[],
) => AsyncIterable<Buffer> | Iterable<Buffer>

/**
 * Stores one shard, in one pass: frames go out as they fill, sums are taken on the way.
 * @param buffer reused between shards, one frame long
 */
export async function storeShard(
  storage: Storage,
  folder: string,
  shard: { name: string; group: string; codec: Codec },
  fill: ShardFiller,
  options: { buffer?: Buffer; signal?: AbortSignal } = {},
): Promise<StoredShard> {
  const writer = new ShardWriter(shard.codec, options.buffer)
  const files: CopiedFile[] = []
  const sum = createHash('sha256')
  let bytes = 0
  const observed = async function* () {
    for await (const frame of fill(writer, files)) {
      sum.update(frame)
      bytes += frame.length
      yield frame
    }
    for (const frame of writer.finish()) {
      sum.update(frame)
      bytes += frame.length
      yield frame
    }
  }
  await storage.put(folder + shard.name, observed(), options.signal ? { signal: options.signal } : {})
  return {
    name: shard.name,
    group: shard.group,
    bytes,
    sha256: sum.digest('hex'),
    plainBytes: writer.plainBytes,
    members: writer.members,
    frameOffsets: writer.frameOffsets,
    files,
  }
}

import type { ReadableRepository } from '../catalog/sealed-object.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { decodeIncrementalHeader, incrementalName } from '../postgres/incremental-file.ts'
import { DEFAULT_BLOCKS_PER_SEGMENT } from '../postgres/relation-file.ts'
import type { FinalMember, Increment } from './file-table.ts'
import { copyOf, HeldMember, type MemberBytes, PassingMember } from './member-bytes.ts'
import { BLOCK_BYTES, type IncrementBlocks } from './merged-blocks.ts'
import { ShardContent, type ShardReader, type StoredShard } from './shard-content.ts'

/** An increment whose header was read, and whose blocks can be read in their order. */
export interface OpenedIncrement extends IncrementBlocks {
  content: MemberBytes
  /** Where its first block lies in its content. */
  blocksAt: number
}

/** Increments up to this size are read before it is their turn, in the order in which they are stored. */
const HELD_BYTES = 4 * 1024 * 1024
/** How much is read beforehand at a time. */
const BATCH_BYTES = 16 * 1024 * 1024
const BATCH_FILES = 1000
const FIXED_BYTES = 12

/** Opens the increments of files, from the shards of many links. It holds a batch of small ones, and a frame of each other. */
export class Increments {
  readonly #repository: ReadableRepository
  readonly #shards: readonly StoredShard[]
  #held = new Map<Increment, MemberBytes>()
  /** What those lie in that are held; used again for each batch. */
  #memory = Buffer.alloc(0)

  constructor(repository: ReadableRepository, shards: readonly StoredShard[]) {
    this.#repository = repository
    this.#shards = shards
  }

  /** Cuts files into batches, and has the small increments of one in memory while it is worked on. */
  async *batches(members: readonly FinalMember[]): AsyncGenerator<readonly FinalMember[]> {
    for (let at = 0; at < members.length; ) {
      let end = at
      for (let bytes = 0; end < members.length && end - at < BATCH_FILES && bytes < BATCH_BYTES; end++) {
        for (const { size } of members[end]!.increments) if (size <= HELD_BYTES) bytes += size
      }
      const batch = members.slice(at, end)
      await this.#hold(batch)
      yield batch
      at = end
    }
  }

  /**
   * @returns newest first; `close` has to be called in the end
   * @throws PgrecallError `damaged`
   */
  async open(member: FinalMember): Promise<{ opened: OpenedIncrement[]; close(): Promise<void> }> {
    const readers: ShardReader[] = []
    const close = async () => {
      for (const reader of readers) await reader.close()
    }
    try {
      const opened: OpenedIncrement[] = []
      for (const increment of member.increments) {
        let content = this.#held.get(increment)
        if (!content) {
          const reader = this.#contentOf(increment.shard).reader([increment])
          readers.push(reader)
          content = new PassingMember(reader, increment, () => this.#damaged(member, increment, WRONG_SUM))
        }
        opened.push(await this.#opened(member, increment, content))
      }
      return { opened, close }
    } catch (error) {
      await close()
      throw error
    }
  }

  async #hold(batch: readonly FinalMember[]): Promise<void> {
    this.#held = new Map()
    const small = batch.flatMap((member) =>
      member.increments.filter(({ size }) => size <= HELD_BYTES).map((increment) => ({ member, increment })),
    )
    const total = small.reduce((bytes, { increment }) => bytes + increment.size, 0)
    if (total > this.#memory.length) this.#memory = Buffer.allocUnsafeSlow(total)
    let used = 0
    const byShard = Map.groupBy(small, ({ increment }) => increment.shard)
    for (const [shard, wanted] of byShard) {
      wanted.sort((a, b) => a.increment.offset - b.increment.offset)
      const reader = this.#contentOf(shard).reader(wanted.map(({ increment }) => increment))
      try {
        for (const { member, increment } of wanted) {
          const room = this.#memory.subarray(used, used + increment.size)
          used += increment.size
          const bytes = await reader.copy(increment.offset, room)
          const damaged = () => this.#damaged(member, increment, WRONG_SUM)
          this.#held.set(increment, new HeldMember(bytes, increment, damaged))
        }
      } finally {
        await reader.close()
      }
    }
  }

  async #opened(member: FinalMember, increment: Increment, content: MemberBytes): Promise<OpenedIncrement> {
    try {
      if (content.size < FIXED_BYTES) throw new Error('it is too short')
      const segmentBlocks = Math.max(DEFAULT_BLOCKS_PER_SEGMENT, Math.ceil(increment.fileSize / BLOCK_BYTES))
      const decode = (bytes: Buffer) => decodeIncrementalHeader(bytes, BLOCK_BYTES, segmentBlocks)!
      const fixed = await copyOf(content, 0, FIXED_BYTES)
      const { headerBytes, blockCount, truncationBlocks } = decode(fixed)
      if (content.size !== headerBytes + blockCount * BLOCK_BYTES)
        throw new Error(`it has ${content.size} bytes, which do not fit ${blockCount} blocks`)
      const rest = await copyOf(content, FIXED_BYTES, headerBytes)
      const { blocks } = decode(Buffer.concat([fixed, rest]))
      if (!blocks || !isAscending(blocks)) throw new Error('its blocks are in another order')
      return { truncationBlocks, blocks, cutAt: increment.cutAt, content, blocksAt: headerBytes }
    } catch (error) {
      throw error instanceof PgrecallError ? error : this.#damaged(member, increment, reasonOf(error))
    }
  }

  #contentOf(shard: number): ShardContent {
    return new ShardContent(this.#repository, this.#shards[shard]!)
  }

  #damaged({ path }: FinalMember, { shard }: Increment, why: string): PgrecallError {
    return new ShardContent(this.#repository, this.#shards[shard]!).damaged(
      `${incrementalName(path)}: ${why}`,
    )
  }
}

export const WRONG_SUM = 'its SHA-256 is wrong'

function isAscending(blocks: Uint32Array): boolean {
  return blocks.every((block, at) => at === 0 || block > blocks[at - 1]!)
}

import { padding, TAR_END, type TarMember, tarHeader } from './tar.ts'

/** Plain bytes in one frame: large enough to compress well, small enough to start reading anywhere cheaply. */
export const FRAME_BYTES = 4 * 1024 * 1024

/**
 * Writes one shard: a tar stream cut into frames, which FramePress compresses. It fills one buffer, which is reused, and
 * hands out a frame each time that is full, so a shard of any size takes the same memory.
 */
export class ShardWriter {
  readonly #buffer: Buffer
  #used = 0
  /** Plain bytes handed out so far. */
  #plainBytes = 0
  members = 0
  /** Those that were added. */
  readonly folders: { path: string; mode: number }[] = []

  /** @param buffer at least one frame long; a worker keeps one for all its shards */
  constructor(buffer: Buffer = Buffer.allocUnsafe(FRAME_BYTES)) {
    this.#buffer = buffer.subarray(0, FRAME_BYTES)
  }

  /** Bytes of the tar stream so far, which is also where the next member's header will begin. */
  get plainBytes(): number {
    return this.#plainBytes + this.#used
  }

  /**
   * Adds a member.
   * @param fill writes the next content bytes into the buffer, at least one, and says how many
   * @returns the offset of the content in the tar stream
   */
  *member(member: TarMember, fill?: (buffer: Buffer) => number): Generator<Buffer, number> {
    this.members++
    if (member.type === 'directory') this.folders.push({ path: member.path, mode: member.mode })
    yield* this.#append(tarHeader(member))
    const offset = this.plainBytes
    for (let left = member.type === 'file' ? member.size : 0; left > 0; ) {
      const room = this.#buffer.subarray(this.#used, this.#used + Math.min(left, FRAME_BYTES - this.#used))
      const filled = fill!(room)
      this.#used += filled
      left -= filled
      if (this.#used === FRAME_BYTES) yield this.#flush()
    }
    yield* this.#append(Buffer.alloc(padding(member.size)))
    return offset
  }

  /**
   * Adds a file whose content comes in pieces, each used up before the next one is asked for.
   * @returns the offset of the content in the tar stream
   */
  async *memberFrom(member: TarMember, content: AsyncIterable<Buffer>): AsyncGenerator<Buffer, number> {
    this.members++
    yield* this.#append(tarHeader(member))
    const offset = this.plainBytes
    for await (const piece of content) yield* this.#append(piece)
    if (this.plainBytes - offset !== member.size) throw new Error(`${member.path} is not as long as was said`)
    yield* this.#append(Buffer.alloc(padding(member.size)))
    return offset
  }

  /** Ends the archive. */
  *finish(): Generator<Buffer> {
    yield* this.#append(TAR_END)
    if (this.#used > 0) yield this.#flush()
  }

  *#append(bytes: Buffer): Generator<Buffer> {
    for (let at = 0; at < bytes.length; ) {
      const copied = bytes.copy(this.#buffer, this.#used, at)
      this.#used += copied
      at += copied
      if (this.#used === FRAME_BYTES) yield this.#flush()
    }
  }

  #flush(): Buffer {
    const frame = this.#buffer.subarray(0, this.#used)
    this.#plainBytes += this.#used
    this.#used = 0
    return frame
  }
}

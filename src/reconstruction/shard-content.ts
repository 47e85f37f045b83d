import { decodeFrame, methodOf, releaseMemory } from '../archive/codec.ts'
import type { StoredObject } from '../catalog/backup-record.ts'
import { isAsRecorded, ObjectSum } from '../catalog/object-sum.ts'
import { isSealed, PartedContent, type ReadableRepository, readContent } from '../catalog/sealed-object.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { cutFrames } from './cut-frames.ts'

/** A shard of a link, and where its frames are: plain data, for threads. */
export interface StoredShard {
  /** The id of the backup that it belongs to. */
  backup: string
  key: string
  /** `base`, a tablespace's oid, or `wal`. */
  group: string
  /** As the backup's record has it. */
  object: StoredObject
  plainBytes: number
  frameBytes: number
  /** Where each frame begins in the object as it is decrypted. */
  frames: Float64Array
}

/** Some of the plain bytes of a shard. */
export interface PlainRange {
  offset: number
  size: number
}

/** Frames that nobody needs are read too, where fewer than these lie between others: asking anew would take longer. */
const GAP_FRAMES = 4

/** The plain bytes of a shard, of which any part can be read: only the frames that hold it are decoded. */
export class ShardContent {
  readonly shard: StoredShard
  readonly #repository: ReadableRepository
  readonly #content: PartedContent

  constructor(repository: ReadableRepository, shard: StoredShard) {
    this.shard = shard
    this.#repository = repository
    this.#content = new PartedContent(repository, shard.key, shard.object)
  }

  /**
   * @param ranges in ascending order, not empty
   * @throws PgrecallError `damaged` where one of them is not inside of the shard
   */
  reader(ranges: Iterable<PlainRange>): ShardReader {
    const { frameBytes, plainBytes } = this.shard
    const wanted: number[] = []
    for (const { offset, size } of ranges) {
      if (!(offset >= 0 && size > 0 && offset + size <= plainBytes)) throw this.damaged(WRONG_INDEX)
      const last = Math.floor((offset + size - 1) / frameBytes)
      for (let frame = Math.floor(offset / frameBytes); frame <= last; frame++) {
        if (frame > (wanted.at(-1) ?? -1)) wanted.push(frame)
      }
    }
    return new ShardReader(this, this.#decoded(wanted))
  }

  damaged(why: string, cause?: unknown): PgrecallError {
    const { key, backup } = this.shard
    return new PgrecallError('damaged', `object ${key} of backup ${backup} is damaged: ${why}`, {
      hint: 'restore from another repository or from another backup',
      cause,
    })
  }

  /** @param wanted the numbers of frames, ascending */
  async *#decoded(wanted: readonly number[]): AsyncGenerator<Frame, undefined> {
    for (const run of this.#runs(wanted)) yield* this.#decodedRun(run)
  }

  async *#decodedRun({ first, last, wanted }: FrameRun): AsyncGenerator<Frame, undefined> {
    const { frameBytes, frames, key, object, plainBytes } = this.shard
    const method = methodOf(key)
    const ends = this.#content.bytes
    const lengths = Array.from(
      frames.subarray(first, last + 1),
      (at, index) => (frames[first + index + 1] ?? ends) - at,
    )
    const sum = first === 0 && last === frames.length - 1 ? new ObjectSum(isSealed(key)) : undefined
    let number = first
    try {
      const stored = sum
        ? await this.#whole(sum)
        : await this.#content.read({
            offset: frames[first]!,
            length: lengths.reduce((total, length) => total + length, 0),
          })
      for await (const bytes of cutFrames(stored, lengths)) {
        const start = number * frameBytes
        if (wanted.has(number++)) {
          const plain = decodeFrame(method, bytes)
          if (plain.length !== Math.min(frameBytes, plainBytes - start))
            throw new Error(`frame ${number} has ${plain.length} bytes`)
          yield { start, bytes: plain }
          if (method !== 'none') releaseMemory(plain)
        }
      }
      if (number <= last) throw new Error('its end is missing')
      if (sum && !isAsRecorded(object, sum.end())) throw new Error('its bytes are not those that were stored')
    } catch (error) {
      throw error instanceof PgrecallError ? error : this.damaged(reasonOf(error), error)
    }
  }

  async #whole(sum: ObjectSum): Promise<AsyncIterable<Buffer>> {
    const onStored = (chunk: Buffer) => sum.push(chunk)
    const content = await readContent(this.#repository, this.shard.key, { onStored })
    if (!content) throw new Error('it is missing from the repository')
    return content
  }

  /** Each run is read by one request; one that comes near both ends takes in all, so that the stored sum can be checked. */
  *#runs(wanted: readonly number[]): Generator<FrameRun> {
    const end = this.shard.frames.length - 1
    for (let at = 0; at < wanted.length; ) {
      let next = at + 1
      while (next < wanted.length && wanted[next]! - wanted[next - 1]! <= GAP_FRAMES) next++
      const numbers = wanted.slice(at, next)
      const first = numbers[0]! <= GAP_FRAMES ? 0 : numbers[0]!
      const last = end - numbers.at(-1)! <= GAP_FRAMES ? end : numbers.at(-1)!
      yield { first, last, wanted: new Set(numbers) }
      at = next
    }
  }
}

/** Frames that are read by one request, and those of them that are decoded. */
interface FrameRun {
  first: number
  last: number
  wanted: ReadonlySet<number>
}

/** @property start where its plain bytes begin in the shard */
interface Frame {
  start: number
  bytes: Buffer
}

const WRONG_INDEX = 'its index names places that are not in it, or in another order'

/** Reads the ranges for which it was made, forwards. It holds one frame. */
export class ShardReader {
  readonly #content: ShardContent
  readonly #frames: AsyncGenerator<Frame, undefined>
  #frame: Frame = { start: 0, bytes: Buffer.alloc(0) }

  constructor(content: ShardContent, frames: AsyncGenerator<Frame, undefined>) {
    this.#content = content
    this.#frames = frames
  }

  /**
   * Plain bytes from a position on, as many as lie in the same frame: at once, where that is the frame at hand.
   * They are valid until the next ones are asked for.
   */
  from(position: number): Buffer | Promise<Buffer> {
    const { start, bytes } = this.#frame
    const at = position - start
    return at >= 0 && at < bytes.length ? bytes.subarray(at) : this.#advance(position)
  }

  /** A copy of some bytes. @param into as many as it has room for */
  async copy(position: number, into: Buffer): Promise<Buffer> {
    for (let done = 0; done < into.length; ) {
      const ready = this.from(position + done)
      const bytes = ready instanceof Promise ? await ready : ready
      done += bytes.copy(into, done)
    }
    return into
  }

  /** Reads to the end of what was wanted: where that is the whole shard, its stored sum is checked. @throws PgrecallError `damaged` */
  async finish(): Promise<void> {
    while (!(await this.#frames.next()).done);
  }

  /** Ends the reading wherever it is. */
  async close(): Promise<void> {
    await this.#frames.return(undefined)
  }

  async #advance(position: number): Promise<Buffer> {
    for (let next = await this.#frames.next(); !next.done; next = await this.#frames.next()) {
      const { start, bytes } = next.value
      if (position < start) break
      this.#frame = next.value
      if (position < start + bytes.length) return bytes.subarray(position - start)
    }
    throw this.#content.damaged(WRONG_INDEX)
  }
}

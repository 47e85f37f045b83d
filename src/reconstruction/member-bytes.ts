import { createHash, type Hash, hash } from 'node:crypto'
import type { PgrecallError } from '../errors.ts'
import type { ShardReader } from './shard-content.ts'

/** Where a member's content lies in its shard, and what it must be. */
export interface MemberPlace {
  offset: number
  size: number
  /** Hexadecimal. */
  sha256: string
}

/** The content of a member, read forwards. */
export interface MemberBytes {
  readonly size: number
  /**
   * The next bytes, at least one, from a position on and before another; valid until the next ones are asked for.
   * What is passed over is read too, for the sum.
   */
  next(from: number, to: number): Buffer | Promise<Buffer>
  /** Reads what is left, and compares the sum. @throws PgrecallError `damaged` */
  end(): Promise<void> | undefined
}

/** A member as it passes by. */
export class PassingMember implements MemberBytes {
  readonly size: number
  readonly #reader: ShardReader
  readonly #place: MemberPlace
  readonly #damaged: () => PgrecallError
  #position = 0
  #sum: Hash | undefined
  #sha256: string | undefined

  /** @param damaged makes the error that names it */
  constructor(reader: ShardReader, place: MemberPlace, damaged: () => PgrecallError) {
    this.size = place.size
    this.#reader = reader
    this.#place = place
    this.#damaged = damaged
  }

  next(from: number, to: number): Buffer | Promise<Buffer> {
    if (this.#position < from) return this.#skipTo(from).then(() => this.next(from, to))
    const ready = this.#reader.from(this.#place.offset + from)
    return ready instanceof Promise
      ? ready.then((bytes) => this.#take(bytes, to - from))
      : this.#take(ready, to - from)
  }

  end(): Promise<void> | undefined {
    if (this.#position < this.size) return this.#skipTo(this.size).then(() => this.#check())
    this.#check()
    return undefined
  }

  #take(ready: Buffer, most: number): Buffer {
    const bytes = ready.length > most ? ready.subarray(0, most) : ready
    this.#position += bytes.length
    if (bytes.length === this.size) this.#sha256 = hash('sha256', bytes)
    else {
      this.#sum ??= createHash('sha256')
      this.#sum.update(bytes)
    }
    return bytes
  }

  async #skipTo(position: number): Promise<void> {
    while (this.#position < position) {
      const ready = this.#reader.from(this.#place.offset + this.#position)
      this.#take(ready instanceof Promise ? await ready : ready, position - this.#position)
    }
  }

  #check(): void {
    const sha256 = this.#sha256 ?? (this.#sum ?? createHash('sha256')).digest('hex')
    if (sha256 !== this.#place.sha256) throw this.#damaged()
  }
}

/** A small member, which was read and checked before. */
export class HeldMember implements MemberBytes {
  readonly size: number
  readonly #bytes: Buffer

  /** @throws what `damaged` makes when the sum is wrong */
  constructor(bytes: Buffer, { sha256 }: MemberPlace, damaged: () => PgrecallError) {
    if (hash('sha256', bytes) !== sha256) throw damaged()
    this.size = bytes.length
    this.#bytes = bytes
  }

  next(from: number, to: number): Buffer {
    return this.#bytes.subarray(from, to)
  }

  end(): undefined {}
}

/** All of a part of a member, in memory of its own. */
export async function copyOf(member: MemberBytes, from: number, to: number): Promise<Buffer> {
  const copy = Buffer.allocUnsafe(to - from)
  for (let done = 0; done < copy.length; ) {
    const ready = member.next(from + done, to)
    done += (ready instanceof Promise ? await ready : ready).copy(copy, done)
  }
  return copy
}

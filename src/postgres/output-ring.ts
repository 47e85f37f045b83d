/** A step of a pipeline costs about as much as the copy of so many bytes; two of them are a small part of what a dump takes. */
const PIECE_BYTES = 1024 * 1024

/**
 * Gathers what comes in small parts into pieces of 1 MiB, in memory that is used again and again: one piece is filled while
 * the other one is read.
 */
export class OutputRing {
  readonly #pieces = [Buffer.allocUnsafeSlow(PIECE_BYTES), Buffer.allocUnsafeSlow(PIECE_BYTES)]
  /** How many were filled, and how many were read. */
  #filled = 0
  #read = 0
  /** Bytes in the one that is being filled. */
  #bytes = 0
  #ended: { error: unknown } | undefined
  #wake = () => {}

  /** Whether both pieces are full: then there is no room before one was read. */
  get isFull(): boolean {
    return this.#filled - this.#read === this.#pieces.length
  }

  /** Where the next bytes belong. */
  get room(): Buffer {
    return this.#pieces[this.#filled % this.#pieces.length]!.subarray(this.#bytes)
  }

  /** So many bytes were put into the room. */
  advance(bytes: number): void {
    this.#bytes += bytes
    if (this.#bytes < PIECE_BYTES) return
    this.#bytes = 0
    this.#filled++
    this.#wake()
  }

  /** Nothing more will come. Of several ends the first one counts. @param error where it was cut off, why */
  end(error?: unknown): void {
    this.#ended ??= { error }
    this.#wake()
  }

  /**
   * @param onRoom is told whenever there is room again
   * @returns pieces, each valid until the next one is asked for; the last may be shorter
   * @throws what it was cut off by
   */
  async *read(onRoom: () => void): AsyncGenerator<Buffer> {
    for (;;) {
      while (this.#filled === this.#read && !this.#ended)
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      if (this.#filled === this.#read) break
      yield this.#pieces[this.#read % this.#pieces.length]!
      this.#read++
      onRoom()
    }
    if (this.#ended?.error !== undefined) throw this.#ended.error
    if (this.#bytes > 0) yield this.#pieces[this.#filled % this.#pieces.length]!.subarray(0, this.#bytes)
  }
}

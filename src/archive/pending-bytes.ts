/** Bytes that have come in and are not used up, in one buffer. */
export class PendingBytes {
  #buffer = Buffer.alloc(0)
  #start = 0
  #end = 0

  get bytes(): Buffer {
    return this.#buffer.subarray(this.#start, this.#end)
  }

  append(chunk: Buffer): void {
    if (this.#end + chunk.length > this.#buffer.length) this.#makeRoom(chunk.length)
    this.#end += chunk.copy(this.#buffer, this.#end)
  }

  remove(count: number): void {
    this.#start += count
  }

  #makeRoom(count: number): void {
    const needed = this.#end - this.#start + count
    const into =
      needed <= this.#buffer.length
        ? this.#buffer
        : Buffer.allocUnsafeSlow(Math.max(2 * this.#buffer.length, needed))
    this.#end = this.bytes.copy(into)
    this.#start = 0
    this.#buffer = into
  }
}

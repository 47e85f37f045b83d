/**
 * One stream for several readers at the same pace: the next chunk is asked for when every reader has asked for it, so
 * a chunk may be reused by its producer as soon as the next one is asked for, and nothing is gathered. A reader that stops
 * early is not waited for any more; when none is left, the source is ended.
 */
export class Tee {
  readonly branches: AsyncIterable<Buffer>[]
  /** What the source failed with. Every reader is told the same. */
  fault: { error: unknown } | undefined
  readonly #source: AsyncIterator<Buffer>
  readonly #waiting = new Map<number, PromiseWithResolvers<IteratorResult<Buffer, undefined>>>()
  readonly #reading: Set<number>
  #isPulling = false

  constructor(source: AsyncIterable<Buffer>, readers: number) {
    this.#source = source[Symbol.asyncIterator]()
    this.#reading = new Set(Array.from({ length: readers }, (_, index) => index))
    this.branches = [...this.#reading].map((index) => ({
      [Symbol.asyncIterator]: () => ({
        next: () => this.#next(index),
        return: async () => {
          await this.leave(index)
          return { done: true, value: undefined }
        },
      }),
    }))
  }

  async #next(index: number): Promise<IteratorResult<Buffer, undefined>> {
    if (this.fault) throw this.fault.error
    const waiting = Promise.withResolvers<IteratorResult<Buffer, undefined>>()
    this.#waiting.set(index, waiting)
    this.#pullIfAllWait()
    return waiting.promise
  }

  /** A reader that will ask for nothing more, also one that never asked; what it has asked for already, it does not get. */
  async leave(index: number): Promise<void> {
    if (!this.#reading.delete(index)) return
    this.#waiting.get(index)?.reject(new Error('this reader has left'))
    this.#waiting.delete(index)
    if (this.#reading.size === 0) await this.#source.return?.()
    else this.#pullIfAllWait()
  }

  #pullIfAllWait(): void {
    if (this.#isPulling || this.#waiting.size === 0 || this.#waiting.size < this.#reading.size) return
    this.#isPulling = true
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    this.#pull(waiting)
  }

  async #pull(waiting: readonly PromiseWithResolvers<IteratorResult<Buffer, undefined>>[]): Promise<void> {
    try {
      const next = await this.#source.next()
      this.#isPulling = false
      for (const { resolve } of waiting) resolve(next.done ? { done: true, value: undefined } : next)
    } catch (error) {
      this.fault = { error }
      for (const { reject } of waiting) reject(error)
    }
  }
}

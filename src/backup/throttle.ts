/** The longest single wait: whoever is told to stop does so within this. */
const TURN_MS = 200

/** Where in the shared memory lie the moment of the next read, in nanoseconds, and the mark that says stop. */
export interface ThrottleSlots {
  due: number
  stop: number
}

/**
 * Holds reading threads to a common rate. The moment at which the next read is due lies in shared memory; each read moves
 * it on by its own share, so that the sum of all is what was asked for, whatever each one reads.
 */
export class Throttle {
  readonly #nanosecondsPerByte: number
  readonly #shared: BigInt64Array<SharedArrayBuffer>
  readonly #slots: ThrottleSlots
  readonly #bell = new Int32Array(new SharedArrayBuffer(4))

  /**
   * @param bytesPerSecond of all threads together
   * @param shared zero at both slots when the work begins
   */
  constructor(bytesPerSecond: number, shared: BigInt64Array<SharedArrayBuffer>, slots: ThrottleSlots) {
    this.#nanosecondsPerByte = 1e9 / bytesPerSecond
    this.#shared = shared
    this.#slots = slots
  }

  /** Blocks the thread until `bytes` may be read, or everybody is to stop. */
  wait(bytes: number): 'due' | 'stopped' {
    const { due: slot, stop } = this.#slots
    const share = BigInt(Math.ceil(bytes * this.#nanosecondsPerByte))
    let due: bigint
    let begin: bigint
    do {
      due = Atomics.load(this.#shared, slot)
      const now = process.hrtime.bigint()
      // Time that nobody used is not saved up.
      begin = due > now ? due : now
    } while (Atomics.compareExchange(this.#shared, slot, due, begin + share) !== due)
    for (let left = begin - process.hrtime.bigint(); left > 0n; left = begin - process.hrtime.bigint()) {
      if (Atomics.load(this.#shared, stop) !== 0n) return 'stopped'
      Atomics.wait(this.#bell, 0, 0, Math.min(TURN_MS, Number(left) / 1e6))
    }
    return 'due'
  }
}

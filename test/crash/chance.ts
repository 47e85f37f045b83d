import { randomFrom } from '../random.ts'

/** Random choices that a seed repeats. */
export class Chance {
  readonly seed: number
  /** From 0 up to, and without, 1. */
  readonly next: () => number

  /** @param seed default PGRECALL_CRASH_SEED, or another one at each run */
  constructor(seed = Number(process.env.PGRECALL_CRASH_SEED ?? Math.floor(Math.random() * 1_000_000))) {
    if (!Number.isSafeInteger(seed)) throw new Error('PGRECALL_CRASH_SEED must be a whole number')
    this.seed = seed
    this.next = randomFrom(seed)
  }

  /** A whole number from 0 up to, and without, `limit`. */
  below(limit: number): number {
    return Math.floor(this.next() * limit)
  }

  shuffled<T>(values: readonly T[]): T[] {
    const left = [...values]
    return Array.from(values, () => left.splice(this.below(left.length), 1)[0]!)
  }
}

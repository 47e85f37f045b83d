import { setTimeout as pause } from 'node:timers/promises'

export interface PollOptions {
  /** What is waited for, as the end of "waited 30 s for ..." */
  what: string
  /** Default 30 s. */
  timeoutMs?: number
  /** Default 25 ms. */
  everyMs?: number
}

/**
 * Asks again and again until the answer is neither `undefined` nor `false`, and gives it back.
 *
 * @throws what `check` throws, or an error when the time is over
 */
export async function poll<T>(check: () => T | Promise<T>, options: PollOptions): Promise<NonNullable<T>> {
  const { what, timeoutMs = 30_000, everyMs = 25 } = options
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const answer = await check()
    if (answer !== undefined && answer !== null && answer !== false) return answer
    if (performance.now() > deadline) throw new Error(`waited ${timeoutMs / 1000} s for ${what}`)
    await pause(everyMs)
  }
}

/** How much longer a hook or a notice may take once the operator wants to stop. */
const GRACE_MS = 5000

/** A signal that is aborted when the time is over; to be disposed of. */
export interface TimeLimit extends Disposable {
  signal: AbortSignal
  /** When it is aborted at the latest, on the clock of `performance.now`. */
  endMs: number
  /** Why it was aborted, for a sentence. */
  reason(): string
}

/**
 * A time limit that becomes short when the process is told to stop.
 * @param patience `none` ends it together with `stop`; `short` leaves it a few seconds, for the news of the end
 */
export function timeLimit(limitMs: number, stop: AbortSignal, patience: 'none' | 'short'): TimeLimit {
  const controller = new AbortController()
  const timers = [setTimeout(() => controller.abort('time'), limitMs)]
  const limit: TimeLimit = {
    signal: controller.signal,
    endMs: performance.now() + limitMs,
    reason: () =>
      controller.signal.reason === 'stop' ? 'was ended, as pgrecall was told to stop' : overdue(limitMs),
    [Symbol.dispose]() {
      for (const timer of timers) clearTimeout(timer)
      stop.removeEventListener('abort', hurry)
    },
  }
  const hurry = () => {
    const graceMs = patience === 'none' ? 0 : GRACE_MS
    limit.endMs = Math.min(limit.endMs, performance.now() + graceMs)
    timers.push(setTimeout(() => controller.abort('stop'), graceMs))
  }
  if (stop.aborted) hurry()
  else stop.addEventListener('abort', hurry)
  return limit
}

const overdue = (limitMs: number) => `took longer than ${limitMs / 1000} s and was ended`

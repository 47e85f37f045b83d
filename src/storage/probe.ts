import { hostname } from 'node:os'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { ProbeFinding } from './storage.ts'

/**
 * The key of the object that a probe tries things with. One for each host: where nothing may be removed, checks do not
 * pile up, and two hosts do not spoil each other's.
 */
export const PROBE_KEY = `pgrecall-probe.${hostname().replace(/[^A-Za-z0-9-]/g, '-')}`

/**
 * Tries one thing. What comes of it is a finding; what fails is one too, with the sentence and the hint of the error.
 * @param work gives what to say when all is well, or a finding that says otherwise
 * @param whenItFails the verdict on an error
 */
export async function tryIt(
  subject: string,
  work: () => Promise<string | Omit<ProbeFinding, 'subject'>>,
  signal?: AbortSignal,
  whenItFails: 'warn' | 'fail' = 'fail',
): Promise<ProbeFinding> {
  signal?.throwIfAborted()
  try {
    const result = await work()
    return typeof result === 'string' ? { subject, verdict: 'pass', text: result } : { subject, ...result }
  } catch (error) {
    signal?.throwIfAborted()
    const hint = error instanceof PgrecallError ? error.hint : undefined
    return { subject, verdict: whenItFails, text: reasonOf(error), ...(hint !== undefined && { hint }) }
  }
}

/** Of a repository's clock. */
export const LOCKS_GO_BY_IT = 'locks and retention go by it'

/** Requests and whole seconds in headers take some of it. */
const WARN_SKEW_MS = 10_000
/** S3 refuses requests whose clock is further off. https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html */
const MOST_SKEW_MS = 15 * 60_000

/**
 * What the difference between this host's clock and another one means.
 * @param aheadMs by how much the other one is ahead
 * @param whose whose the other one is
 * @param why what goes by it
 */
export function judgeClock(aheadMs: number, whose: string, why: string): Omit<ProbeFinding, 'subject'> {
  const offMs = Math.abs(aheadMs)
  const text = `this clock is ${Math.round(offMs / 1000)} s ${aheadMs > 0 ? 'behind' : 'ahead of'} ${whose}`
  if (offMs <= WARN_SKEW_MS) return { verdict: 'pass', text }
  const hint = `set the clock (timedatectl, chronyc tracking): ${why}`
  return { verdict: offMs > MOST_SKEW_MS ? 'fail' : 'warn', text, hint }
}

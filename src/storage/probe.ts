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

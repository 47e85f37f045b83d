import { setTimeout as pause } from 'node:timers/promises'
import type { Lab } from '../lab/lab.ts'
import { type RunOptions, type RunResult, resultOf } from '../lab/product.ts'

/**
 * Starts pgrecall and ends it with SIGKILL after so long. The launcher hands its process over to node and pgrecall
 * starts no other, so that one process is all that there is.
 */
export async function killAfter(
  lab: Lab,
  args: string[],
  delayMs: number,
  options: RunOptions = {},
): Promise<RunResult & { tookMs: number }> {
  const { process: running } = await lab.startPgrecall(args, options)
  const begun = performance.now()
  const over = new AbortController()
  const ending = resultOf(running).finally(() => over.abort())
  await pause(delayMs, undefined, { signal: over.signal }).catch(() => {})
  running.kill('SIGKILL')
  return { ...(await ending), tookMs: performance.now() - begun }
}

/** How long a run to the end takes, in milliseconds. @throws when it fails */
export async function durationOf(lab: Lab, args: string[], options: RunOptions = {}): Promise<number> {
  const begun = performance.now()
  await succeed(lab, args, options)
  return performance.now() - begun
}

/** Runs pgrecall to its end. @throws when it fails */
export async function succeed(lab: Lab, args: string[], options: RunOptions = {}): Promise<RunResult> {
  const result = await lab.pgrecall(args, options)
  if (result.exitCode === 0) return result
  throw new Error(`${args.join(' ')} ended with ${result.signal ?? result.exitCode}: ${result.stderr}`)
}

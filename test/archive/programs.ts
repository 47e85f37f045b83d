import { spawnSync } from 'node:child_process'

/**
 * Whether a program is here, for `describe.runIf`. Where CI is set the answer is yes: there a missing program must
 * fail, since a test that did not run looks like one that passed.
 */
export function has(name: 'zstd' | 'tar'): boolean {
  if (process.env.CI) return true
  const { stdout } = spawnSync(name, ['--version'], { encoding: 'utf8' })
  return name === 'tar' ? /GNU tar/.test(stdout ?? '') : Boolean(stdout)
}

/** Runs a program on bytes. @throws with what it said when it failed */
export function pipeThrough(program: string, args: string[], input: Buffer): Buffer {
  const run = spawnSync(program, args, { input, maxBuffer: 256 * 1024 * 1024 })
  if (run.error) throw run.error
  if (run.status !== 0) throw new Error(`${program} ended with ${run.status}: ${run.stderr}`)
  return run.stdout
}

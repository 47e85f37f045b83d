import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { execa, type Options } from 'execa'
import type { HoldRequest } from './hold.ts'

const SCRIPT = fileURLToPath(new URL('hold.ts', import.meta.url))

/** Starts another process that makes snapshots. @returns when it has made them, or has failed */
export async function startHolder(request: HoldRequest, options: Pick<Options, 'uid' | 'gid'> = {}) {
  const child = execa(process.execPath, [SCRIPT, JSON.stringify(request)], {
    ...options,
    reject: false,
    cwd: '/',
  })
  const lines = createInterface(child.stdout)
  const [line] = await Promise.race([once(lines, 'line'), child.then(() => [undefined])])
  return {
    /** Undefined when it failed. */
    views: line === undefined ? undefined : new Map(JSON.parse(line as string) as [string, string][]),
    async kill() {
      child.kill('SIGKILL')
      await child
    },
    async end() {
      child.stdin.end()
      return child
    },
  }
}

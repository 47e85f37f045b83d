import { readFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * The line of a note that names one start of the server that has a data directory open.
 * @param root the data directory
 * @returns undefined where none has
 * @see CreateLockFile in src/backend/utils/init/miscinit.c for `postmaster.pid`: process, data directory, start time
 */
export function runningServer(root: string): string | undefined {
  let lines: string[]
  try {
    lines = readFileSync(join(root, 'postmaster.pid'), 'utf8').split('\n')
  } catch {
    return undefined
  }
  const [pid = '', , startedAt = ''] = lines
  return /^\d+$/.test(pid) && /^\d+$/.test(startedAt) ? `server ${pid} ${startedAt}` : undefined
}

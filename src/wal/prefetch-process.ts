import { readFileSync, statSync } from 'node:fs'

/** A process as the kernel tells it. */
export interface LivingProcess {
  /** When it began, in the kernel's ticks: its number alone may be given to another process. */
  start: string
  /** By SIGSTOP: it may go on at any time, but does nothing now. */
  isStopped: boolean
}

/** @returns undefined when there is no such process. A zombie is none. */
export function livingProcess(pid: number): LivingProcess | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The command's name, in parentheses, may hold spaces; the start time is the 20th field after it.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const [state, start] = [fields[0] ?? '', fields[19] ?? '']
    return /^[ZX]$/.test(state) ? undefined : { start, isStopped: state === 'T' }
  } catch {
    return undefined
  }
}

/** Whether a process runs in just this folder, and not in a copy of it. */
export function worksIn(pid: number, folder: string): boolean {
  try {
    const [its, ours] = [statSync(`/proc/${pid}/cwd`), statSync(folder)]
    return its.ino === ours.ino && its.dev === ours.dev
  } catch {
    return false
  }
}

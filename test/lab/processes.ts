import { readdirSync, readFileSync } from 'node:fs'
import { poll } from './poll.ts'

/** Whether a process runs. A zombie does not: where nobody reaps orphans (containers), it would stay for ever. */
export function isAlive(pid: number): boolean {
  return readStat(pid) !== undefined
}

/** Whether it stands still, as after SIGSTOP, which takes effect a moment later than it is sent. */
export function isStopped(pid: number): boolean {
  return readState(pid)?.[0] === 'T'
}

/** The processes below `pid`, and below those. */
export function descendantsOf(pid: number): number[] {
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc')) {
    const parent = /^\d+$/.test(name) ? readStat(Number(name)) : undefined
    if (parent !== undefined) parents.set(Number(name), parent)
  }
  const found: number[] = []
  const collect = (ancestor: number) => {
    for (const [child, parent] of parents) {
      if (parent !== ancestor) continue
      found.push(child)
      collect(child)
    }
  }
  collect(pid)
  return found
}

/** Resolves when none of the processes runs any more; who is still there after `patienceMs` is killed. */
export async function untilGone(pids: number[], patienceMs = 10_000): Promise<void> {
  const impatientAt = performance.now() + patienceMs
  await poll(
    () => {
      const left = pids.filter(isAlive)
      if (performance.now() > impatientAt) for (const pid of left) tryKill(pid)
      return left.length === 0
    },
    { what: `the end of the processes ${pids.join(', ')}`, timeoutMs: patienceMs + 5_000, everyMs: 10 },
  )
}

function tryKill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It went by itself in this moment.
  }
}

/** @returns the parent of a living process */
function readStat(pid: number): number | undefined {
  const [state, parent] = readState(pid) ?? []
  return state === undefined || state === 'Z' || state === 'X' ? undefined : Number(parent)
}

/** @returns the fields of `/proc/<pid>/stat` from the third on: state, parent, ... */
function readState(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The second field is the name in parentheses, which may hold spaces and parentheses itself.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined
  }
}

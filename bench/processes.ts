import { readFileSync } from 'node:fs'
import { descendantsOf, untilGone } from '../test/lab/processes.ts'

const SAMPLE_EVERY_MS = 20
/** Which processes there are is looked up less often than their memory: that takes a walk through /proc. */
const SAMPLES_PER_LOOKUP = 5
/** PSS makes the kernel walk a process's pages, so it is read only where the cheap RSS is a record by this much. */
const RECORD_BYTES = 1024 * 1024
/** Linux tells the times of processes in this unit. */
const TICKS_PER_SECOND = 100

/**
 * Samples the memory of all descendants of a process until it is disposed of. What counts is the proportional set
 * size (PSS), in which a page that several processes share counts once.
 */
export class MemoryWatch implements Disposable {
  peakBytes = 0
  readonly #root: number
  readonly #timer: NodeJS.Timeout
  #processes: number[] = []
  #samples = 0
  #highestRss = 0

  constructor(root: number) {
    this.#root = root
    this.#timer = setInterval(() => this.#sample(), SAMPLE_EVERY_MS)
  }

  #sample(): void {
    if (this.#samples++ % SAMPLES_PER_LOOKUP === 0) this.#processes = descendantsOf(this.#root)
    const rss = this.#sum('status', /^VmRSS:\s+(\d+) kB/m)
    if (rss < this.#highestRss + RECORD_BYTES) return
    this.#highestRss = rss
    this.peakBytes = Math.max(this.peakBytes, this.#sum('smaps_rollup', /^Pss:\s+(\d+) kB/m))
  }

  #sum(file: string, field: RegExp): number {
    const kilobytes = this.#processes.map((pid) => Number(field.exec(readProc(pid, file))?.[1] ?? 0))
    return kilobytes.reduce((sum, one) => sum + one, 0) * 1024
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }
}

/** CPU time of a process and its descendants, also of those that have ended. @param root undefined: there is none */
export function cpuSecondsOf(root: number | undefined): number {
  if (root === undefined) return 0
  const ticks = [root, ...descendantsOf(root)].map((pid) => {
    const stat = readProc(pid, 'stat')
    // utime, stime, and the same two of children that were waited for; see proc(5).
    const times = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return times.slice(11, 15).reduce((sum, time) => sum + Number(time), 0)
  })
  return ticks.reduce((sum, one) => sum + one, 0) / TICKS_PER_SECOND
}

/**
 * What a process and its descendants have read so far, also those that have ended: Linux adds what they read to their
 * parent, as their CPU time.
 * @param root undefined: there is none
 */
export function bytesReadBy(root: number | undefined): number {
  if (root === undefined) return 0
  const bytes = [root, ...descendantsOf(root)].map((pid) =>
    Number(/^rchar: (\d+)/m.exec(readProc(pid, 'io'))?.[1] ?? 0),
  )
  return bytes.reduce((sum, one) => sum + one, 0)
}

/** A walsender ends a little after its client. What it did counts to its parent only when it is gone. */
export async function untilWalsendersEnd(server: number | undefined): Promise<void> {
  if (server === undefined) return
  await untilGone(descendantsOf(server).filter((pid) => readProc(pid, 'cmdline').includes('walsender')))
}

/** CPU time of all processes of the machine since it started, with what its host took away from it. */
export function cpuSecondsOfMachine(): number {
  const [all] = readFileSync('/proc/stat', 'latin1').split('\n')
  const [user, nice, system, , , irq, softirq, steal] = all!.split(/\s+/).slice(1).map(Number)
  return (user! + nice! + system! + irq! + softirq! + steal!) / TICKS_PER_SECOND
}

/** @returns empty when the process has just ended */
function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1')
  } catch {
    return ''
  }
}

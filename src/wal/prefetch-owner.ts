import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { livingProcess, worksIn } from './prefetch-process.ts'
import { type Circumstances, READY } from './spool.ts'

/** Whose the ready segments are: whoever it is that the file names, and nobody else adds to them. */
export interface Prefetcher {
  pid: number
  /** See LivingProcess. */
  start: string
  /** The circumstances that it writes into its notes. */
  lines: readonly string[]
}

const OWNER = join(READY, 'prefetcher.json')
/** How long a call waits for one that it replaces. */
const ENDING_MS = 1000
const POSITION = join(READY, 'position')

export function readPrefetcher(root: string): Prefetcher | undefined {
  try {
    return JSON.parse(readFileSync(join(root, OWNER), 'utf8')) as Prefetcher
  } catch {
    return undefined
  }
}

/** Hands the ready segments over to a process; the one that had them until now stops. */
export async function appointPrefetcher({ root, lines }: Circumstances, pid: number): Promise<void> {
  const start = livingProcess(pid)?.start
  if (start !== undefined) await replace(join(root, OWNER), JSON.stringify({ pid, start, lines }))
}

/** Whether it goes on making segments ready that are believed under these circumstances. */
export function isAtWork(prefetcher: Prefetcher, { root, lines }: Circumstances): boolean {
  return (
    isLiving(prefetcher, root) &&
    livingProcess(prefetcher.pid)?.isStopped === false &&
    JSON.stringify(prefetcher.lines) === JSON.stringify(lines)
  )
}

/** Ends it, also where somebody has stopped it. It may be over already, or be another directory's. */
export async function endPrefetcher(prefetcher: Prefetcher, root: string): Promise<void> {
  const deadline = performance.now() + ENDING_MS
  try {
    if (isLiving(prefetcher, root)) process.kill(prefetcher.pid, 'SIGTERM')
    if (isLiving(prefetcher, root)) process.kill(prefetcher.pid, 'SIGCONT')
  } catch {
    // It ended in this moment.
  }
  // One that does not end is no harm: it will find that it is not the appointed one any more.
  while (isLiving(prefetcher, root) && performance.now() < deadline) await wait(5)
}

/** Whether this process is the appointed one. */
export function isAppointed(root: string): boolean {
  const prefetcher = readPrefetcher(root)
  return prefetcher?.pid === process.pid && prefetcher.start === livingProcess(process.pid)?.start
}

function isLiving({ pid, start }: Prefetcher, root: string): boolean {
  return livingProcess(pid)?.start === start && worksIn(pid, root)
}

/** Tells the prefetcher which segment a call has delivered that the launcher could not answer. */
export async function tellPosition(root: string, name: string): Promise<void> {
  // The process makes two calls for the same segment two different texts.
  await replace(join(root, POSITION), `${name} ${process.pid}`)
}

/** The last such call; another text is another call. */
export function readPosition(root: string): string | undefined {
  try {
    return readFileSync(join(root, POSITION), 'utf8')
  } catch {
    return undefined
  }
}

async function replace(path: string, text: string): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.new`
  await writeFile(temporary, text, { mode: 0o600, flag: 'wx' })
  await rename(temporary, path)
}

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { systemCode } from '../errors.ts'
import type { NoticeFacts, Occasion } from './facts.ts'
import type { TimeLimit } from './time-limit.ts'

/** A command that is run before or after operations. */
export interface Hook {
  /** The program and its arguments; no shell is involved. */
  run: string[]
  on: Occasion[]
  operations: string[]
  timeoutMs: number
}

/** How a hook or a notice went. */
export interface Told {
  /** What went wrong, to be put behind its name; undefined when all went well. */
  failure: string | undefined
  /** The end of what a command said. */
  output: string
}

const OUTPUT_BYTES = 16 * 1024
/** Between the request to end and the end. */
const KILL_MS = 2000
/** What a command started and left running may hold its output open. */
const REST_MS = 200

/**
 * Runs a hook to its end, in a process group of its own, which is ended when the time is over. A program that it leaves
 * running on purpose, in time, is left alone.
 * @param json the facts, for its standard input, of which it may read as much as it likes
 * @param env the environment, to which words for small scripts are added
 */
export async function runHook(
  hook: Hook,
  facts: NoticeFacts,
  json: string,
  env: Record<string, string>,
  limit: TimeLimit,
): Promise<Told> {
  try {
    const child = start(hook, { ...env, ...wordsOf(facts) })
    child.stdin.on('error', () => {}).end(`${json}\n`)
    return await ended(child, limit)
  } catch (error) {
    // The code only: arguments, which a message may repeat, can be secrets.
    return { failure: `could not be started (${systemCode(error) ?? 'no reason is known'})`, output: '' }
  }
}

/** @throws what keeps a program from being started; some of it comes later, as an event */
function start({ run: [program, ...args] }: Hook, env: Record<string, string>) {
  return spawn(program!, args, { cwd: '/', env, stdio: ['pipe', 'pipe', 'pipe'], detached: true })
}

async function ended(child: ReturnType<typeof start>, limit: TimeLimit): Promise<Told> {
  const output = lastOutput(child)
  using _ = endedWith(child, limit.signal)
  try {
    const closed = once(child, 'close')
    closed.catch(() => {})
    const [exitCode, signal] = (await once(child, 'exit')) as [number | null, string | null]
    await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, REST_MS))])
    return { failure: failureOf(exitCode, signal, limit), output: output() }
  } finally {
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy()
  }
}

function failureOf(exitCode: number | null, signal: string | null, limit: TimeLimit): string | undefined {
  if (limit.signal.aborted) return limit.reason()
  if (signal !== null) return `was ended by ${signal}`
  return exitCode === 0 ? undefined : `ended with exit code ${exitCode}`
}

/** What a script of one line needs, without a parser of JSON. */
function wordsOf({ event, operation, cluster, outcome }: NoticeFacts): Record<string, string> {
  return {
    PGRECALL_EVENT: event,
    PGRECALL_OPERATION: operation,
    PGRECALL_OUTCOME: outcome ?? '',
    PGRECALL_CLUSTER: cluster ?? '',
  }
}

function lastOutput(child: ChildProcess): () => string {
  let text = ''
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.setEncoding('utf8').on('data', (piece: string) => {
      text = (text + piece).slice(-OUTPUT_BYTES)
    })
  }
  return () => text.trim()
}

/** Ends the whole group of a child when the signal says so, and at once when this process exits before. */
function endedWith(child: ChildProcess, signal: AbortSignal): Disposable {
  let impatience: NodeJS.Timeout | undefined
  const kill = () => killGroup(child, 'SIGKILL')
  const end = () => {
    killGroup(child, 'SIGTERM')
    impatience = setTimeout(kill, KILL_MS)
  }
  process.once('exit', kill)
  if (signal.aborted) end()
  else signal.addEventListener('abort', end)
  return {
    [Symbol.dispose]() {
      process.removeListener('exit', kill)
      signal.removeEventListener('abort', end)
      clearTimeout(impatience)
      // Its leader may have ended when it was asked to, and left the others.
      if (signal.aborted) kill()
    },
  }
}

function killGroup({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(-pid, signal)
  } catch {
    // It has ended.
  }
}

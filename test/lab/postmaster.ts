import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import { cleanEnvironment } from './environment.ts'
import { poll } from './poll.ts'
import { descendantsOf, isStopped, untilGone } from './processes.ts'
import type { Programs } from './programs.ts'
import { errorWithLog } from './server-log.ts'
import { asCommandLine, type Settings } from './settings.ts'
import { asLabUser } from './user.ts'

/** `smart` waits for clients to leave, `fast` sends them away, `immediate` skips the shutdown checkpoint. */
export type StopMode = 'smart' | 'fast' | 'immediate'

const SIGNALS = { smart: 'SIGTERM', fast: 'SIGINT', immediate: 'SIGQUIT' } as const

export interface PostmasterOptions {
  programs: Programs
  dataDirectory: string
  settings: Settings
  logFile: string
  /** HOME of the server, by which the lab knows its processes. */
  home: string
}

/** One run of a server, from its start to its end. */
export class Postmaster {
  readonly #child: ChildProcess
  readonly #options: PostmasterOptions
  readonly #ended: Promise<number>

  /** Starts the process; whether it gets ready is another question. */
  constructor(options: PostmasterOptions) {
    this.#options = options
    const log = openSync(options.logFile, 'a')
    // A session of its own, or Ctrl-C at the terminal would shut the server down before we decide what to do.
    this.#child = spawn(
      options.programs.path('postgres'),
      ['-D', options.dataDirectory, ...asCommandLine(options.settings)],
      {
        ...asLabUser,
        cwd: '/',
        env: cleanEnvironment(options.home),
        detached: true,
        stdio: ['ignore', log, log],
      },
    )
    closeSync(log)
    this.#child.unref()
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    this.#child.once('exit', (code, signal) => resolve(code ?? (signal ? 128 : 1)))
    this.#child.once('error', reject)
    promise.catch(() => {})
    this.#ended = promise
  }

  get isRunning(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Resolves when it accepts connections, as a primary or as a standby. @throws with the log when it ends before */
  async untilReady(timeoutMs: number): Promise<void> {
    await this.#waiting('the server to accept connections', timeoutMs, () => {
      if (!this.isRunning) throw new Error(`the server ended with exit code ${this.#child.exitCode}`)
      const [pid, status] = this.#pidFile(0, 7)
      return Number(pid) === this.#child.pid && /^(ready|standby)\s*$/.test(status ?? '')
    })
  }

  /** @returns the exit code, once it has ended by itself */
  async untilEnded(timeoutMs: number): Promise<number> {
    await this.#waiting('the server to end', timeoutMs, () => !this.isRunning)
    return this.#ended
  }

  async stop(mode: StopMode, timeoutMs: number): Promise<void> {
    this.#child.kill(SIGNALS[mode])
    await this.untilEnded(timeoutMs)
  }

  /**
   * SIGKILL to the postmaster. Its children notice by themselves; this waits until the last of them is gone. It is stopped
   * first: a child that it started between the count and its end would hold the shared memory that a next start asks for.
   */
  async kill(): Promise<void> {
    this.#child.kill('SIGSTOP')
    await poll(() => !this.isRunning || isStopped(this.#child.pid!), {
      what: 'the server to stand still',
      everyMs: 1,
    })
    const children = descendantsOf(this.#child.pid!)
    const [sharedMemory] = this.#pidFile(6)
    this.#child.kill('SIGKILL')
    await this.untilEnded(10_000)
    await untilGone(children)
    // A killed server cannot free its 56 bytes of System V memory; a later start would, but maybe none comes.
    const id = sharedMemory?.trim().split(/\s+/)[1]
    if (id) await execa('ipcrm', ['-m', id], { ...asLabUser, reject: false })
  }

  async #waiting(what: string, timeoutMs: number, check: () => boolean): Promise<void> {
    try {
      await poll(check, { what, timeoutMs, everyMs: 10 })
    } catch (error) {
      throw errorWithLog((error as Error).message, this.#options.logFile, error)
    }
  }

  /** Lines of `postmaster.pid`, from 0: process, ..., shared memory (6), status (7). */
  #pidFile(...lines: number[]): (string | undefined)[] {
    try {
      const content = readFileSync(join(this.#options.dataDirectory, 'postmaster.pid'), 'utf8').split('\n')
      return lines.map((line) => content[line])
    } catch {
      return []
    }
  }
}

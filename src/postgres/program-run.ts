import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Writable } from 'node:stream'
import { reasonOf } from '../errors.ts'
import type { BulkOutput } from './bulk-output.ts'
import type { Environment, Program } from './client-programs.ts'

export interface RunOptions {
  args: string[]
  /** More of the environment: passwords, and settings of libpq. */
  settings?: Record<string, string>
  /** Whether something is written to its input. */
  input: boolean
  /** For an output of gigabytes. */
  bulk?: BulkOutput
  signal?: AbortSignal | undefined
  /** Called with each line of its messages. */
  onLine?: (line: string) => void
}

/** How a program ended; in `otherwise` in words, for one that said nothing itself. */
export interface ProgramEnd {
  isGood: boolean
  /** null when a signal ended it, or it could not be started */
  exitCode: number | null
  /** By a fault of its own, as some make one of damaged input. */
  crashed: boolean
  otherwise: string
}

const CRASHES = ['SIGSEGV', 'SIGBUS', 'SIGABRT', 'SIGFPE', 'SIGILL']

/** Enough of a program's words to say why it failed. */
const LAST_WORDS_BYTES = 64 * 1024
/** One message can quote a whole statement. */
const LONGEST_LINE_BYTES = 1024 * 1024
/** How long a program may take to end when it is told to; it cancels its queries then. */
const END_MS = 5000

/**
 * A program of PostgreSQL's that runs. Its own messages are in English, whatever the locale, because they are read; what
 * the server says therein stays in the server's language.
 *
 * Disposing ends it when it still runs, and waits for that.
 */
export class ProgramRun implements AsyncDisposable {
  readonly #child: ChildProcess
  readonly #closed: Promise<ProgramEnd>
  readonly #options: RunOptions
  readonly #stop = () => this.#end()
  #impatience: NodeJS.Timeout | undefined
  #line = ''
  /** The end of all that it said. */
  words = ''

  constructor(program: Program, env: Environment, options: RunOptions) {
    this.#options = options
    this.#child = spawn(program.path, options.args, {
      env: { ...env, ...options.settings, LC_ALL: 'C', PG_COLOR: 'never', PGAPPNAME: 'pgrecall' },
      stdio: [options.input ? 'pipe' : 'ignore', options.bulk?.forProgram ?? 'pipe', 'pipe'],
    })
    // A program may end before it has read all; its exit code tells whether it had enough.
    this.#child.stdin?.on('error', () => {})
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => this.#hear(text))
    this.#closed = this.#untilClosed(program)
    options.signal?.addEventListener('abort', this.#stop)
    if (options.signal?.aborted) this.#end()
  }

  /** What it gives out; of a bulk, each piece is valid until the next one is asked for. To be read once. */
  get stdout(): AsyncIterable<Buffer> {
    const { stdout } = this.#child
    return this.#options.bulk?.read(stdout) ?? (stdout as AsyncIterable<Buffer>)
  }

  /** For a program whose output is of no interest: reads it away. */
  ignoreOutput(): this {
    this.#child.stdout?.resume()
    return this
  }

  /**
   * Writes to its input, and waits until the program has taken it, so that the piece can be used for something else.
   * @returns false when the program reads no more
   */
  async write(piece: Buffer): Promise<boolean> {
    const input = this.#child.stdin as Writable
    if (!input.writable) return false
    // Of a stream that is destroyed, the callbacks are called as well.
    const failed = await new Promise<Error | null | undefined>((resolve) => input.write(piece, resolve))
    return !failed
  }

  /** Writes all pieces, as far as the program reads them, and the end of the input. */
  async writeAll(pieces: AsyncIterable<Buffer>): Promise<void> {
    for await (const piece of pieces) if (!(await this.write(piece))) break
    this.endInput()
  }

  endInput(): void {
    this.#child.stdin?.end()
  }

  /**
   * Waits until it has ended and all that it said was heard.
   * @throws the reason of the signal
   */
  async ended(): Promise<ProgramEnd> {
    const end = await this.#closed
    this.#options.signal?.throwIfAborted()
    return end
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#end()
    await this.#closed
  }

  async #untilClosed(program: Program): Promise<ProgramEnd> {
    try {
      const [exitCode, killedBy] = (await once(this.#child, 'close')) as [number | null, string | null]
      if (this.#line !== '') this.#options.onLine?.(this.#line)
      const otherwise = killedBy ? `it was ended by ${killedBy}` : `exit code ${exitCode}`
      return { isGood: exitCode === 0, exitCode, crashed: CRASHES.includes(killedBy ?? ''), otherwise }
    } catch (error) {
      return {
        isGood: false,
        exitCode: null,
        crashed: false,
        otherwise: `${program.path} could not be started: ${reasonOf(error)}`,
      }
    } finally {
      clearTimeout(this.#impatience)
      this.#options.signal?.removeEventListener('abort', this.#stop)
    }
  }

  #end(): void {
    const child = this.#child
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGTERM')
      this.#impatience ??= setTimeout(() => child.kill('SIGKILL'), END_MS)
    }
    // What the program has started itself can hold the other ends, and finds out by this.
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream?.destroy()
    this.#options.bulk?.[Symbol.dispose]()
  }

  #hear(text: string): void {
    this.words = (this.words + text).slice(-LAST_WORDS_BYTES)
    if (!this.#options.onLine) return
    const lines = (this.#line + text).split('\n')
    this.#line = lines.pop()!.slice(0, LONGEST_LINE_BYTES)
    for (const line of lines) this.#options.onLine(line)
  }
}

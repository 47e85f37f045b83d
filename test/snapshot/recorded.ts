import { realpath } from 'node:fs/promises'
import { PgrecallError } from '../../src/errors.ts'
import { parseMounts } from '../../src/snapshot/mounts.ts'
import { openSnapshots } from '../../src/snapshot/open.ts'
import type { SnapshotOptions } from '../../src/snapshot/options.ts'
import { Scratch } from '../lab/scratch.ts'

/** Answers as programs did when they were recorded, for hosts that cannot run them. */
export class Recorded implements AsyncDisposable {
  /** Every command line, in order, its arguments joined by spaces. */
  readonly lines: string[] = []
  /** Of /proc/self/mountinfo, without the numbers at the front; see `mount`. */
  mounts = ['8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw']
  /** An existing folder for what the test makes. */
  readonly folder: string
  answer: (line: string) => string | Promise<string> = () => ''

  readonly #scratch: Scratch

  private constructor(scratch: Scratch, folder: string) {
    this.#scratch = scratch
    this.folder = folder
  }

  static async create(): Promise<Recorded> {
    const scratch = await Scratch.create('recorded')
    return new Recorded(scratch, await realpath(scratch.path))
  }

  mount(target: string, type: string, source: string, root = '/') {
    this.mounts.push(
      `253:${this.mounts.length} ${root} ${target} rw,relatime shared:1 - ${type} ${source} rw`,
    )
  }

  open(options: SnapshotOptions) {
    return openSnapshots(options, {
      run: async (argv) => {
        const line = argv.join(' ')
        this.lines.push(line)
        return { stdout: await this.answer(line) }
      },
      mounts: async () => parseMounts(this.mounts.map((line, index) => `${index + 30} 1 ${line}`).join('\n')),
      isEmptied: (path) => path === 'pg_wal',
    })
  }

  /** What was run since the last time. */
  takeLines(): string[] {
    return this.lines.splice(0)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scratch[Symbol.asyncDispose]()
  }
}

/** As the real runner tells it. */
export function programFailed(line: string, words: string): PgrecallError {
  return new PgrecallError('failed', `"${line}" failed with exit code 5: ${words}`)
}

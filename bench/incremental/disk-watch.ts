import { setTimeout as pause } from 'node:timers/promises'
import { execa } from 'execa'

const SAMPLE_EVERY_MS = 500

/** Samples what lies below a folder on the disk, until it is asked for the highest. */
export class DiskWatch {
  readonly #folder: string
  readonly #before: number
  readonly #ending = new AbortController()
  readonly #sampling: Promise<number>

  private constructor(folder: string, before: number) {
    this.#folder = folder
    this.#before = before
    this.#sampling = this.#sample()
  }

  static async start(folder: string): Promise<DiskWatch> {
    return new DiskWatch(folder, await diskBytes(folder))
  }

  /** @returns bytes beyond those at the start. What nothing has removed at the end counts in any case. */
  async end(): Promise<number> {
    this.#ending.abort()
    const highest = await this.#sampling
    return Math.max(highest, await diskBytes(this.#folder)) - this.#before
  }

  async #sample(): Promise<number> {
    let highest = 0
    while (!this.#ending.signal.aborted) {
      await pause(SAMPLE_EVERY_MS, undefined, { signal: this.#ending.signal }).catch(() => {})
      highest = Math.max(highest, await diskBytes(this.#folder))
    }
    return highest
  }
}

/** Allocated blocks, those of files with several names once. Files may vanish meanwhile. */
export async function diskBytes(folder: string): Promise<number> {
  const { stdout } = await execa('du', ['--summarize', '--block-size=1', folder], { reject: false })
  return Number.parseInt(stdout, 10)
}

import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { execa } from 'execa'
import { cleanEnvironment } from '../../test/lab/environment.ts'
import { asLabUser } from '../../test/lab/user.ts'
import type { WalGround } from './ground.ts'

const SCRIPT = fileURLToPath(new URL('timed.sh', import.meta.url))

/** One run of a hook, from the start of its shell to its end. */
export interface Call {
  milliseconds: number
  /** An earlier call had left the answer. */
  isPrepared: boolean
}

/** What a hook is asked for. */
export interface Asked {
  /** %f */
  name: string
  /** %p */
  path: string
  dataDirectory: string
}

/** Notes the time of each run of a hook. */
export class CallLog {
  readonly #file: string
  readonly #ground: WalGround

  constructor(ground: WalGround) {
    this.#ground = ground
    this.#file = join(ground.scratch.path, `calls-${performance.now()}`)
  }

  /** @returns the command with a clock around it. @param mark path of what an earlier call leaves; %f is the file */
  around(command: string, mark: string): string {
    return `bash ${this.#ground.timer} ${this.#file} ${quoted(mark)} ${quoted(command)}`
  }

  /** Runs one hook from the data directory, as PostgreSQL would. @throws when it fails */
  async run(command: string, mark: string, { name, path, dataDirectory }: Asked): Promise<void> {
    const fill = (text: string) => text.replaceAll('%f', name).replaceAll('%p', path)
    await execa('bash', [this.#ground.timer, this.#file, fill(mark), fill(command)], {
      ...asLabUser,
      cwd: dataDirectory,
      env: cleanEnvironment(this.#ground.scratch.path),
      extendEnv: false,
    })
  }

  /** Those that succeeded: a restore_command is also asked for what is not there. */
  async read(): Promise<Call[]> {
    const lines = (await readFile(this.#file, 'utf8')).trim().split('\n')
    const words = lines.map((line) => line.split(' '))
    return words
      .filter(([, , code]) => code === '0')
      .map(([microseconds, mark]) => ({
        milliseconds: Number(microseconds) / 1000,
        isPrepared: mark === 'marked',
      }))
  }
}

/** Where the servers' user can read it, which the checkout may not be. */
export async function installTimer(ground: { scratch: WalGround['scratch'] }): Promise<string> {
  return ground.scratch.file('timed.sh', await readFile(SCRIPT))
}

const quoted = (text: string) => `'${text.replaceAll("'", `'\\''`)}'`

import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KEEP_MARK, sweepAtTheEnd } from './leftovers.ts'
import { asLabUser, giveToLabUser } from './user.ts'

/** A Unix socket's path ends after 107 bytes, and below the base there are a lab, a cluster and the socket. */
const LONGEST_BASE = 40

/** A folder of the lab's user that is gone when its owner is disposed of, or when this process ends in any way. */
export class Scratch implements AsyncDisposable {
  readonly path: string
  #kept = false

  private constructor(path: string) {
    this.path = path
  }

  /** @param label a word in the folder's name, for people who meet it in `/tmp` */
  static async create(label = 'lab'): Promise<Scratch> {
    const path = await mkdtemp(join(base(), `pgrecall-${label}-`))
    sweepAtTheEnd(path)
    await giveToLabUser(path)
    return new Scratch(path)
  }

  /** Makes a folder of mode 0700 in it, for the lab's user. @returns its path */
  async folder(name: string): Promise<string> {
    const path = join(this.path, name)
    await mkdir(path, { mode: 0o700 })
    await giveToLabUser(path)
    return path
  }

  /** Writes a file of mode 0600 in it, for the lab's user. @returns its path */
  async file(name: string, content: string | Uint8Array): Promise<string> {
    const path = join(this.path, name)
    await writeFile(path, content, { mode: 0o600 })
    await giveToLabUser(path)
    return path
  }

  /** From now on nothing removes it, and whatever runs in it may outlive this process. */
  async keep(): Promise<void> {
    this.#kept = true
    await writeFile(join(this.path, KEEP_MARK), 'Whoever removes this folder ends its servers first.\n')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The retries are for a last archive_command that still writes while we remove.
    if (!this.#kept) await rm(this.path, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 })
  }
}

let foundBase: string | undefined

function base(): string {
  foundBase ??= tmpdir().length <= LONGEST_BASE && labUserMayEnter(tmpdir()) ? tmpdir() : '/tmp'
  return foundBase
}

function labUserMayEnter(folder: string): boolean {
  return spawnSync('test', ['-x', folder], { ...asLabUser, cwd: '/' }).status === 0
}

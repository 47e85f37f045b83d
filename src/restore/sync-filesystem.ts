import { stat, statfs } from 'node:fs/promises'
import { release } from 'node:os'
import { execa } from 'execa'
import { PgrecallError } from '../errors.ts'

/** By the numbers of statfs(2): ext4, XFS, btrfs. Of others we do not know what syncfs(2) does and reports. */
const KNOWN_FILESYSTEMS = [0xef53, 0x58465342, 0x9123683e]

/**
 * Makes everything durable that was written below some folders, by one syncfs(2) for each filesystem: a sync of each of
 * many small files takes the disk a hundred times as long. Node has no such call, the program `sync -f` has.
 *
 * It must also tell when a write has failed. The kernel does so since 5.8: an error of writing out anything of the
 * filesystem, at any time, is kept until a syncfs has reported it, so one that happened before our first one is not
 * lost. (Opening a file again to sync it is weaker: its error is forgotten when the kernel drops the file from memory.)
 * @see https://man7.org/linux/man-pages/man2/syncfs.2.html
 */
export class FilesystemSync {
  readonly #folders: string[]
  #running: Promise<void> | undefined

  /** @returns undefined where syncing file by file is the only certain way */
  static async of(folders: readonly string[]): Promise<FilesystemSync | undefined> {
    if (!reportsErrors(process.platform, release()) || !(await hasProgram())) return undefined
    const byDevice = new Map<number, string>()
    for (const folder of folders) {
      if (!KNOWN_FILESYSTEMS.includes((await statfs(folder)).type)) return undefined
      byDevice.set((await stat(folder)).dev, folder)
    }
    return new FilesystemSync([...byDevice.values()])
  }

  private constructor(folders: string[]) {
    this.#folders = folders
  }

  /** Lets the disk begin with what is there, unless it is still at it. A failure is thrown by `finish`. */
  start(): void {
    if (this.#running) return
    const running = this.#syncAll()
    this.#running = running
    running.then(
      () => {
        this.#running = undefined
      },
      () => {},
    )
  }

  /** When this resolves, what was written before the call is durable. @throws PgrecallError `failed` */
  async finish(): Promise<void> {
    await this.#running
    await this.#syncAll()
  }

  async #syncAll(): Promise<void> {
    for (const folder of this.#folders) {
      const { failed, stderr } = await execa('sync', ['-f', folder], { reject: false, stdin: 'ignore' })
      if (!failed) continue
      throw new PgrecallError('failed', `the disk below ${folder} did not take what was written: ${stderr}`, {
        hint: 'look into the log of the kernel (dmesg) for errors of the disk; then run the same restore again',
      })
    }
  }
}

/** @param kernel as uname tells it: `6.1.0-18-amd64` */
export function reportsErrors(platform: string, kernel: string): boolean {
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(kernel) ?? []
  return platform === 'linux' && (Number(major) > 5 || (Number(major) === 5 && Number(minor) >= 8))
}

/** Others of that name ignore the option, or the error. */
async function hasProgram(): Promise<boolean> {
  const { failed, stdout } = await execa('sync', ['--version'], { reject: false, stdin: 'ignore' })
  return !failed && /^sync \(GNU coreutils\)/.test(stdout)
}

import { writeSync } from 'node:fs'
import { open, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { labUser } from '../lab/user.ts'

/** A file system in memory, mounted on a folder: a disk that is easily full. */
export class SmallDisk implements AsyncDisposable {
  readonly path: string

  private constructor(path: string) {
    this.path = path
  }

  /**
   * @param path an existing, empty folder
   * @returns undefined when this user may not mount here
   */
  static async mount(path: string, mebibytes: number): Promise<SmallDisk | undefined> {
    if (process.getuid?.() !== 0) return undefined
    const owner = labUser ? `,uid=${labUser.uid},gid=${labUser.gid}` : ''
    const options = `size=${mebibytes}m,mode=0700${owner}`
    const { exitCode } = await execa('mount', ['-t', 'tmpfs', '-o', options, 'pgrecall-test', path], {
      reject: false,
    })
    return exitCode === 0 ? new SmallDisk(path) : undefined
  }

  async resize(mebibytes: number): Promise<void> {
    await execa('mount', ['-o', `remount,size=${mebibytes}m`, this.path])
  }

  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.path)
    return bavail * bsize
  }

  /** Fills it with a file that is no part of anything. @param leave bytes that stay free */
  async fill(leave = 0): Promise<void> {
    const filler = await open(join(this.path, 'filler'), 'w')
    try {
      const piece = Buffer.alloc(4096)
      for (let left = (await this.freeBytes()) - leave; left > 0; ) left -= writeSync(filler.fd, piece)
    } finally {
      await filler.close()
    }
  }

  async makeRoom(): Promise<void> {
    await rm(join(this.path, 'filler'))
  }

  /** What still writes there, such as a server that is being stopped, must not keep the folder from being removed. */
  async [Symbol.asyncDispose](): Promise<void> {
    await execa('umount', ['--lazy', this.path])
  }
}

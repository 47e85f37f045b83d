import { type ChildProcess, spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { execa } from 'execa'
import type { TestContext } from 'vitest'

const FILE_SYSTEMS = {
  btrfs: { make: ['mkfs.btrfs', '--quiet'], mebibytes: 256, package: 'btrfs-progs' },
  // The smallest that mkfs.xfs makes; the image is sparse.
  xfs: { make: ['mkfs.xfs', '-q'], mebibytes: 320, package: 'xfsprogs' },
  ext4: { make: ['mkfs.ext4', '-q'], mebibytes: 32, package: 'e2fsprogs' },
}

/**
 * Waits until our end of its standard input is gone, and with it perhaps we, by SIGKILL. The loop device goes with
 * the mount. The session is its own, so that Ctrl-C reaches us and not the one who cleans up after us.
 */
const GUARDIAN = `
trap '' INT TERM HUP
cat > /dev/null
for mount in $(cut -d' ' -f5 /proc/self/mountinfo | grep "^$1/" | tac); do umount --lazy "$(printf %b "$mount")"; done
rm -rf --one-file-system "$1"
`

/** A real file system in a file, mounted: gone with its owner, or with this process. */
export class LoopDisk implements AsyncDisposable {
  /** Where it is mounted. */
  readonly path: string
  /** Beside the mount, on the file system of temporary files. */
  readonly outside: string
  readonly #guardian: ChildProcess

  private constructor(folder: string, guardian: ChildProcess) {
    this.path = join(folder, 'disk')
    this.outside = folder
    this.#guardian = guardian
  }

  /**
   * For the first line of a test: who is not root gets it skipped with a message. Root gets that too when a program
   * is missing, but an error where CI is set, because there a test that did not run looks like one that passed.
   *
   * @param mountOptions as `mount -o` takes them
   */
  static async mount(
    context: TestContext,
    type: keyof typeof FILE_SYSTEMS,
    mountOptions: string[] = [],
  ): Promise<LoopDisk> {
    if (process.getuid?.() !== 0) context.skip('only root may mount file systems')
    const folder = await mkdtemp(join(tmpdir(), 'pgrecall-disk-'))
    const guardian = spawn('sh', ['-c', GUARDIAN, 'sh', folder], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    const disk = new LoopDisk(folder, guardian)
    try {
      await disk.#make(type, mountOptions)
      return disk
    } catch (error) {
      await disk[Symbol.asyncDispose]()
      const message = `cannot mount a new ${type} (is ${FILE_SYSTEMS[type].package} installed?): ${error}`
      if (!process.env.CI) context.skip(message)
      throw new Error(message)
    }
  }

  async #make(type: keyof typeof FILE_SYSTEMS, mountOptions: string[]): Promise<void> {
    const { make, mebibytes } = FILE_SYSTEMS[type]
    const image = join(this.outside, 'image')
    await writeFile(image, '')
    await truncate(image, mebibytes * 1024 * 1024)
    await execa(make[0]!, [...make.slice(1), image])
    await mkdir(this.path)
    await execa('mount', ['-t', type, '-o', ['loop', ...mountOptions].join(','), image, this.path])
  }

  /** Makes a subvolume (btrfs). @returns its path */
  async subvolume(...names: string[]): Promise<string> {
    const path = join(this.path, ...names)
    await execa('btrfs', ['subvolume', 'create', path])
    return path
  }

  /** Makes a folder. @returns its path */
  async folder(...names: string[]): Promise<string> {
    const path = join(this.path, ...names)
    await mkdir(path, { recursive: true })
    return path
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = new Promise((resolve) => this.#guardian.once('exit', resolve))
    this.#guardian.stdin!.end()
    await ended
    await rm(this.outside, { recursive: true, force: true })
  }
}

import { mkdtemp, readdir, readFile, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { newHolder, parseHolder, stateOf } from '../catalog/holder.ts'
import { PgrecallError, reasonOf } from '../errors.ts'

const PREFIX = 'pgrecall-restore-'
const HOLDER = 'holder.json'
/** No dump is that exactly what was recorded of it, and other processes write as well. */
const SPARE_BYTES = 64 * 1024 * 1024

/** A folder of a restore's own for what has to lie in files for a while. Disposing removes it, with all that is in it. */
export class RestoreStaging implements AsyncDisposable {
  readonly path: string

  private constructor(path: string) {
    this.path = path
  }

  /**
   * Makes one, and removes what killed restores have left beside it.
   * @param parent exists
   * @param neededBytes of the most that lies there at once
   * @throws PgrecallError `refused` where there is no room, or nothing can be written
   */
  static async create(parent: string, neededBytes: number, now: Date): Promise<RestoreStaging> {
    try {
      await sweep(parent, now)
      const { bavail, bsize } = await statfs(parent)
      const freeBytes = bavail * bsize
      if (neededBytes > 0 && freeBytes < neededBytes + SPARE_BYTES)
        throw noRoom(parent, neededBytes, freeBytes)
      // Made with mode 0700: what is in it is the content of databases.
      const staging = new RestoreStaging(await mkdtemp(join(parent, PREFIX)))
      await writeFile(join(staging.path, HOLDER), JSON.stringify(await newHolder('restore', now)))
      return staging
    } catch (error) {
      if (error instanceof PgrecallError) throw error
      throw new PgrecallError('refused', `${parent} cannot be used for staging: ${reasonOf(error)}`, {
        hint: 'name a folder that exists and can be written, with --staging',
        cause: error,
      })
    }
  }

  file(name: string): string {
    return join(this.path, name)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true })
  }
}

async function sweep(parent: string, now: Date): Promise<void> {
  for (const name of (await readdir(parent)).filter((each) => each.startsWith(PREFIX))) {
    const folder = join(parent, name)
    const holder = parseHolder(await readFile(join(folder, HOLDER)).catch(() => undefined))
    if (holder && (await stateOf(holder, now)) === 'dead')
      await rm(folder, { recursive: true, force: true }).catch(() => {})
  }
}

function noRoom(parent: string, neededBytes: number, freeBytes: number): PgrecallError {
  const mib = (bytes: number) => `${Math.ceil(bytes / 1024 / 1024)} MiB`
  return new PgrecallError(
    'refused',
    `${parent} has no room for a dump of ${mib(neededBytes)}: ${mib(freeBytes)} are free`,
    { hint: 'name another folder with --staging, or leave --jobs and --staging out: then nothing is staged' },
  )
}

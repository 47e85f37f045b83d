import { createHash } from 'node:crypto'
import { lstat, mkdir, readdir, rm, stat, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { type Holder, newHolder, stateOf } from '../catalog/holder.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'

/** `pgrecall-staging-<process>-<its start>-<host and table of processes>-<random>` */
const NAME = /^pgrecall-staging-(\d+)-(\d*)-([0-9a-f]{16})-[0-9a-f]{12}$/
/** Of a process that cannot be asked for, as it was of another host or before a restart, it is debris after this long. */
const SILENT_MS = 24 * 60 * 60 * 1000

/**
 * A folder for what cannot stream, in a place of the user's choice; nobody else may look into it. Disposing removes it. What
 * a killed process left is removed by the next one: the name is made with the folder, and says whose it is.
 */
export class StagingFolder implements AsyncDisposable {
  readonly path: string

  private constructor(path: string) {
    this.path = path
  }

  /** @throws PgrecallError `refused` where no folder can be made */
  static async make(place: string): Promise<StagingFolder> {
    const own = await newHolder('staging', new Date())
    await sweep(place, own)
    const path = join(
      place,
      `pgrecall-staging-${own.pid}-${own.processStart}-${tableOf(own)}-${own.id.slice(-12)}`,
    )
    try {
      await mkdir(path, { mode: 0o700 })
    } catch (error) {
      throw unusable(place, error)
    }
    return new StagingFolder(path)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true, maxRetries: 5 })
  }
}

/** What is free in a place, in bytes. @throws PgrecallError `refused` where there is no such folder */
export async function freeRoom(place: string): Promise<number> {
  const facts = await statfs(place).catch((error) => {
    throw unusable(place, error)
  })
  if (!(await stat(place)).isDirectory()) throw unusable(place, new Error('it is no folder'))
  return facts.bavail * facts.bsize
}

/**
 * @param neededBytes an estimate
 * @param what is to lie there, for the sentence: `the dump of "shop"`
 * @throws PgrecallError `refused` where there is less room, or no such folder
 */
export async function requireRoom(place: string, neededBytes: number, what: string): Promise<void> {
  const free = await freeRoom(place)
  if (neededBytes <= free) return
  const mib = (bytes: number) => `${Math.ceil(bytes / 1024 / 1024)} MiB`
  throw new PgrecallError(
    'refused',
    `${place} has ${mib(free)} free, and ${what} may need ${mib(neededBytes)} there`,
    { hint: 'free some space, name another folder, or leave --staging out: then nothing is staged' },
  )
}

function unusable(place: string, error: unknown): PgrecallError {
  return new PgrecallError('refused', `nothing can be staged in ${place}: ${reasonOf(error)}`, {
    hint: 'name a folder that exists and that this user may write to, with enough room',
    cause: error,
  })
}

/** Removes what processes that are gone have left. */
async function sweep(place: string, own: Holder): Promise<void> {
  const names = await readdir(place).catch((error) => {
    throw unusable(place, error)
  })
  for (const name of names) {
    const path = join(place, name)
    if (await isAbandoned(name, path, own).catch(() => false))
      // Where it does not work now it will another time.
      await rm(path, { recursive: true, force: true }).catch(() => {})
  }
}

async function isAbandoned(name: string, path: string, own: Holder): Promise<boolean> {
  const [, pid, processStart = '', table] = NAME.exec(name) ?? []
  if (pid === undefined) return false
  const facts = await lstat(path)
  // In a folder that all may write to, anybody can make such a name.
  if (!facts.isDirectory() || facts.uid !== process.getuid?.()) return false
  if (table === tableOf(own))
    return (await stateOf({ ...own, pid: Number(pid), processStart }, new Date())) === 'dead'
  return Date.now() - (await lastChange(path, facts.mtimeMs)) > SILENT_MS
}

/** Of the folder, and of all that is in it. */
async function lastChange(path: string, ownMs: number): Promise<number> {
  const entries = await readdir(path, { withFileTypes: true, recursive: true })
  const times = entries.map(async (entry) => {
    const facts = await lstat(join(entry.parentPath, entry.name)).catch((error) => {
      if (systemCode(error) === 'ENOENT') return undefined
      throw error
    })
    return facts?.mtimeMs ?? 0
  })
  return (await Promise.all(times)).reduce((latest, time) => Math.max(latest, time), ownMs)
}

/** Processes can be told apart by their ids only within one of these. */
function tableOf({ host, pidNamespace }: Holder): string {
  return createHash('sha256').update(`${host} ${pidNamespace}`).digest('hex').slice(0, 16)
}

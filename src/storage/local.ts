import { randomBytes } from 'node:crypto'
import type { Stats } from 'node:fs'
import {
  type FileHandle,
  link,
  mkdir,
  open,
  opendir,
  readdir,
  rename,
  rm,
  rmdir,
  stat,
  statfs,
  unlink,
} from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import {
  type GetOptions,
  isValidKey,
  type ListOptions,
  type ObjectFacts,
  type PutOptions,
  type Source,
  type Storage,
  type StorageAddress,
} from './storage.ts'

/** Writes that are under way lie here, under names that say which process makes them. */
const INCOMING = '.incoming'
/** What another host left unfinished is debris after this long. */
const FOREIGN_DEBRIS_MS = 24 * 60 * 60 * 1000
const READ_BYTES = 1024 * 1024

/**
 * A repository in a folder. Objects are files of mode 0600 in folders of mode 0700; everything is written under
 * a temporary name, synced, given its name, and the folder is synced, in this order.
 *
 * Run as root on a folder that belongs to another user, what is written belongs to that user too, so that root's
 * cron job and the server's `archive_command` can share a repository.
 */
export class LocalStorage implements Storage {
  readonly location: string
  readonly address: StorageAddress
  #owner: Promise<{ uid: number; gid: number } | undefined> | undefined
  #written = 0
  readonly #durableFolders = new Set<string>()

  /** @param path absolute path of the repository's folder; it is made by the first write */
  constructor(path: string) {
    this.location = path
    this.address = { type: 'local', path }
  }

  async put(key: string, source: Source, options: PutOptions = {}): Promise<'stored' | 'exists'> {
    const target = this.#pathOf(key)
    return this.#reporting('write', key, async () => {
      if (options.ifAbsent && (await statOrAbsent(target))) {
        // Whoever gave it its name may have been killed before the folder was synced.
        await syncFolder(dirname(target))
        return 'exists'
      }
      const temporary = await this.#newTemporary()
      try {
        await this.#fill(temporary, source, options.signal)
        options.signal?.throwIfAborted()
        const result = await this.#publish(temporary, target, options.ifAbsent ?? false)
        await syncFolder(dirname(target))
        return result
      } finally {
        await rm(temporary, { force: true })
      }
    })
  }

  async get(key: string, options: GetOptions = {}): Promise<AsyncIterable<Buffer> | undefined> {
    const path = this.#pathOf(key)
    const handle = await this.#reporting('read', key, async () => {
      try {
        return await open(path, 'r')
      } catch (error) {
        if (isAbsent(error)) return undefined
        throw error
      }
    })
    return handle && this.#read(handle, key, options)
  }

  async stat(key: string): Promise<ObjectFacts | undefined> {
    return this.#reporting('read', key, async () => {
      const facts = await statOrAbsent(this.#pathOf(key))
      return facts?.isFile() ? { key, bytes: facts.size, modified: facts.mtime } : undefined
    })
  }

  list(prefix: string, options: ListOptions = {}): AsyncIterable<ObjectFacts> {
    const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1)
    return this.#walk(folder, prefix, options.startAfter ?? '', options.signal)
  }

  async *folders(prefix: string): AsyncIterable<string> {
    for (const entry of await this.#entries(prefix)) if (entry.isDirectory) yield entry.name
  }

  async remove(key: string): Promise<void> {
    const path = this.#pathOf(key)
    await this.#reporting('remove', key, async () => {
      try {
        await unlink(path)
      } catch (error) {
        if (isAbsent(error)) return
        throw error
      }
      await syncFolder(dirname(path))
      await this.#removeEmptyFolders(dirname(path))
    })
  }

  async sweep(): Promise<{ objects: number; bytes: number }> {
    const swept = { objects: 0, bytes: 0 }
    const folder = join(this.location, INCOMING)
    await this.#reporting('sweep', INCOMING, async () => {
      const names = await readdir(folder).catch((error) => {
        if (isAbsent(error)) return []
        throw error
      })
      for (const name of names) {
        const facts = await statOrAbsent(join(folder, name))
        if (!facts || !isAbandoned(name, facts)) continue
        await rm(join(folder, name), { force: true })
        swept.objects++
        swept.bytes += facts.size
      }
    })
    return swept
  }

  async freeBytes(): Promise<number | undefined> {
    for (let path = this.location; ; path = dirname(path)) {
      try {
        const facts = await statfs(path)
        return facts.bavail * facts.bsize
      } catch (error) {
        if (!isAbsent(error) || path === dirname(path)) return undefined
      }
    }
  }

  /** Makes the repository's folder; as root, gives what it makes to `owner` or to the nearest folder's owner. */
  async create(owner?: { uid: number; gid: number }): Promise<void> {
    if (owner && process.getuid?.() === 0 && !(await statOrAbsent(this.location))) {
      this.#owner = Promise.resolve(owner)
    }
    await this.#reporting('make', '', () => this.#makeFolder(join(this.location, INCOMING)))
  }

  #pathOf(key: string): string {
    if (!isValidKey(key)) throw new PgrecallError('repository', `"${key}" is not a valid object key`)
    return join(this.location, key)
  }

  async #fill(path: string, source: Source, signal?: AbortSignal): Promise<void> {
    const handle = await open(path, 'wx', 0o600)
    try {
      const owner = await this.#ownerOfRoot()
      if (owner) await handle.chown(owner.uid, owner.gid)
      if (source instanceof Uint8Array) await writeAll(handle, source)
      else {
        for await (const chunk of source) {
          signal?.throwIfAborted()
          await writeAll(handle, chunk)
        }
      }
      await handle.sync()
    } finally {
      await handle.close()
    }
  }

  /** Gives a finished file its name. A folder that a removal takes away at the same moment is made again. */
  async #publish(temporary: string, target: string, ifAbsent: boolean): Promise<'stored' | 'exists'> {
    for (let attempt = 1; ; attempt++) {
      await this.#makeFolder(dirname(target))
      try {
        // A hard link is the one call that gives a name only if nobody has it.
        if (ifAbsent) await link(temporary, target)
        else await rename(temporary, target)
        return 'stored'
      } catch (error) {
        if (ifAbsent && systemCode(error) === 'EEXIST') return 'exists'
        if (systemCode(error) !== 'ENOENT' || attempt === 3) throw error
        this.#durableFolders.clear()
      }
    }
  }

  async #newTemporary(): Promise<string> {
    await this.#makeFolder(join(this.location, INCOMING))
    const unique = `${++this.#written}-${randomBytes(6).toString('hex')}`
    return join(this.location, INCOMING, `${process.pid}@${hostname()}@${unique}`)
  }

  async *#read(handle: FileHandle, key: string, options: GetOptions): AsyncIterable<Buffer> {
    const buffer = Buffer.allocUnsafe(READ_BYTES)
    let position = options.range?.offset ?? 0
    let left = options.range?.length ?? Number.POSITIVE_INFINITY
    try {
      while (left > 0) {
        options.signal?.throwIfAborted()
        const want = Math.min(buffer.length, left)
        const { bytesRead } = await this.#reporting('read', key, () => handle.read(buffer, 0, want, position))
        if (bytesRead === 0) return
        position += bytesRead
        left -= bytesRead
        yield buffer.subarray(0, bytesRead)
      }
    } finally {
      await handle.close()
    }
  }

  async *#walk(
    folder: string,
    prefix: string,
    startAfter: string,
    signal: AbortSignal | undefined,
  ): AsyncIterable<ObjectFacts> {
    for (const entry of await this.#entries(folder)) {
      signal?.throwIfAborted()
      const key = folder + entry.name
      if (entry.isDirectory) {
        const below = `${key}/`
        const matches = below.startsWith(prefix) || prefix.startsWith(below)
        // A whole folder lies before `startAfter` unless it sorts after it or contains it.
        if (matches && (below > startAfter || startAfter.startsWith(below))) {
          yield* this.#walk(below, prefix, startAfter, signal)
        }
      } else if (key.startsWith(prefix) && key > startAfter) {
        const facts = await this.stat(key)
        if (facts) yield facts
      }
    }
  }

  /** One folder in the byte order of the keys below it: a folder `a` sorts as `a/`. */
  async #entries(folder: string): Promise<{ name: string; isDirectory: boolean }[]> {
    return this.#reporting('list', folder, async () => {
      const found: { name: string; isDirectory: boolean; order: string }[] = []
      try {
        for await (const entry of await opendir(join(this.location, folder))) {
          if (entry.name.startsWith('.') || !isValidKey(entry.name)) continue
          const isDirectory = entry.isDirectory()
          if (!isDirectory && !entry.isFile()) continue
          found.push({ name: entry.name, isDirectory, order: isDirectory ? `${entry.name}/` : entry.name })
        }
      } catch (error) {
        if (!isAbsent(error)) throw error
      }
      return found.sort((a, b) => (a.order < b.order ? -1 : 1))
    })
  }

  /**
   * Makes a folder and its missing parents, and syncs each into its parent before it is used. One of ours that exists
   * is synced too, once: a process that made it may have been killed before it could.
   */
  async #makeFolder(folder: string): Promise<void> {
    if (this.#durableFolders.has(folder)) return
    const parent = dirname(folder)
    const isOurs = folder.startsWith(this.location)
    const exists = (await statOrAbsent(folder))?.isDirectory() === true
    if (exists && !isOurs) return
    if (folder !== parent) await this.#makeFolder(parent)
    if (!exists) await this.#makeOneFolder(folder)
    if (!exists || folder !== this.location) await syncFolder(parent)
    this.#durableFolders.add(folder)
  }

  async #makeOneFolder(folder: string): Promise<void> {
    try {
      await mkdir(folder, 0o700)
    } catch (error) {
      if (systemCode(error) === 'EEXIST') return
      throw error
    }
    const owner = await this.#ownerOfRoot()
    if (!owner) return
    const handle = await open(folder, 'r')
    await handle.chown(owner.uid, owner.gid).finally(() => handle.close())
  }

  /** Whose the repository is, when that is not us and we may give files away. */
  #ownerOfRoot(): Promise<{ uid: number; gid: number } | undefined> {
    this.#owner ??= (async () => {
      if (process.getuid?.() !== 0) return undefined
      for (let path = this.location; ; path = dirname(path)) {
        const facts = await statOrAbsent(path)
        if (facts) return facts.uid === 0 ? undefined : { uid: facts.uid, gid: facts.gid }
      }
    })()
    return this.#owner
  }

  /** Folders that a removal emptied go too, up to the root; one that is filled meanwhile stays. */
  async #removeEmptyFolders(folder: string): Promise<void> {
    for (let path = folder; path.length > this.location.length; path = dirname(path)) {
      try {
        await rmdir(path)
      } catch {
        return
      }
    }
  }

  async #reporting<T>(doing: string, key: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      const code = systemCode(error)
      if (error instanceof PgrecallError || code === undefined || code === 'ABORT_ERR') throw error
      const what = key === '' ? this.location : join(this.location, key)
      const hint = HINTS[code]
      throw new PgrecallError(
        'repository',
        `cannot ${doing} ${what}: ${SENTENCES[code] ?? reasonOf(error)}`,
        {
          ...(hint && { hint: hint(this.location) }),
          cause: error,
        },
      )
    }
  }
}

const SENTENCES: Record<string, string> = {
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EROFS: 'the file system is read-only',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EIO: 'the disk reported an input/output error',
  ENOTDIR: 'a file stands where a folder must be',
}

const HINTS: Record<string, (root: string) => string> = {
  ENOSPC: () => 'free some space, for example with "pgrecall retention", and run this again',
  EDQUOT: () => 'raise the quota or free some space, and run this again',
  EACCES: (root) => `run as the user who owns ${root}, usually postgres`,
  EPERM: (root) =>
    `${root} must be on a file system with hard links, and belong to the user who runs pgrecall`,
  EIO: () => 'look at the kernel log; the disk may be failing',
}

function isAbsent(error: unknown): boolean {
  const code = systemCode(error)
  return code === 'ENOENT' || code === 'ENOTDIR'
}

async function statOrAbsent(path: string): Promise<Stats | undefined> {
  try {
    return await stat(path)
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

async function writeAll(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let done = 0; done < chunk.length; ) {
    done += (await handle.write(chunk, done, chunk.length - done)).bytesWritten
  }
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r').catch((error) => {
    if (isAbsent(error)) return undefined
    throw error
  })
  await handle?.sync().finally(() => handle.close())
}

/** Whether the process that was writing this file is gone; on another host only time can tell. */
function isAbandoned(name: string, facts: Stats): boolean {
  const [pid, host] = name.split('@')
  if (host !== hostname() || !pid) return Date.now() - facts.mtimeMs > FOREIGN_DEBRIS_MS
  if (Number(pid) === process.pid) return false
  try {
    process.kill(Number(pid), 0)
    return false
  } catch (error) {
    return systemCode(error) === 'ESRCH'
  }
}

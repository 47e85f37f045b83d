import { type FileHandle, link, open, rename, rm, statfs, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { systemCode } from '../errors.ts'
import { isAbsent, statOrAbsent, syncFolder, writeAll } from './durable-files.ts'
import { INCOMING, incomingName, sweepIncoming } from './incoming.ts'
import { storageError } from './local-errors.ts'
import { LocalFolders } from './local-folders.ts'
import { type Entry, entriesOf, listFiles } from './local-listing.ts'
import { lookAtFolder, probeFolder } from './local-probe.ts'
import {
  absentObject,
  type GetOptions,
  type ListOptions,
  type ObjectFacts,
  type ProbeFinding,
  type PutOptions,
  requireKey,
  requirePrefix,
  type Source,
  type Storage,
  type StorageAddress,
} from './storage.ts'

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
  readonly #folders: LocalFolders

  /** @param path absolute path of the repository's folder; it is made by the first write */
  constructor(path: string) {
    this.location = path
    this.address = { type: 'local', path }
    this.#folders = new LocalFolders(path)
  }

  async put(key: string, source: Source, options: PutOptions = {}): Promise<'stored' | 'exists'> {
    const target = this.#pathOf(key)
    let sourceFault: { error: unknown } | undefined
    const observed = async function* () {
      try {
        yield* source instanceof Uint8Array ? [source] : source
      } catch (error) {
        sourceFault = { error }
        throw error
      }
    }
    try {
      return await this.#reporting('write', key, () => this.#put(target, observed(), options))
    } catch (error) {
      // What the producer of the bytes fails with is not the repository's fault, and must not be told as such.
      throw sourceFault ? sourceFault.error : error
    }
  }

  async #put(
    target: string,
    source: AsyncIterable<Uint8Array>,
    { ifAbsent = false, signal }: PutOptions,
  ): Promise<'stored' | 'exists'> {
    if (ifAbsent && (await statOrAbsent(target))?.isFile()) return this.#found(target)
    await this.#folders.make(join(this.location, INCOMING))
    const temporary = join(this.location, INCOMING, incomingName())
    try {
      await this.#fill(temporary, source, signal)
      signal?.throwIfAborted()
      if ((await this.#publish(temporary, target, ifAbsent)) === 'exists') return this.#found(target)
      await syncFolder(dirname(target))
      return 'stored'
    } finally {
      await rm(temporary, { force: true })
    }
  }

  /** Whoever wrote it may have been killed before its name was durable, and the caller relies on it from now on. */
  async #found(target: string): Promise<'exists'> {
    await syncFolder(dirname(target))
    return 'exists'
  }

  async get(key: string, options: GetOptions = {}): Promise<AsyncIterable<Buffer> | undefined> {
    const path = this.#pathOf(key)
    const handle = await this.#reporting('read', key, async () => {
      // Opening a folder works, and opening a pipe waits for ever.
      if (!(await statOrAbsent(path))?.isFile()) return undefined
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
    const path = this.#pathOf(key)
    return this.#reporting('read', key, async () => {
      const facts = await statOrAbsent(path)
      return facts?.isFile() ? { key, bytes: facts.size, modified: facts.mtime } : undefined
    })
  }

  list(prefix: string, options: ListOptions = {}): AsyncIterable<ObjectFacts> {
    requirePrefix(prefix)
    return listFiles(
      prefix,
      options,
      (folder) => this.#entries(folder),
      (key) => this.stat(key),
    )
  }

  async *folders(prefix: string): AsyncIterable<string> {
    requirePrefix(prefix)
    for (const entry of await this.#entries(prefix)) if (entry.isDirectory) yield entry.name
  }

  async *names(prefix: string): AsyncIterable<string> {
    requirePrefix(prefix)
    for (const entry of await this.#entries(prefix)) if (!entry.isDirectory) yield entry.name
  }

  async remove(key: string): Promise<void> {
    const path = this.#pathOf(key)
    await this.#reporting('remove', key, async () => {
      try {
        await unlink(path)
      } catch (error) {
        if (systemCode(error) === 'EISDIR') return
        if (!isAbsent(error)) throw error
      }
      // Also when it was gone before: whoever removed it may have been killed before it came to the folders.
      await syncFolder(dirname(path))
      await this.#folders.removeEmpty(dirname(path))
    })
  }

  async replaceStart(
    key: string,
    oldBytes: number,
    start: Uint8Array,
    options: { signal?: AbortSignal } = {},
  ): Promise<void> {
    const range = { offset: oldBytes, length: Number.POSITIVE_INFINITY }
    const replaced = async function* (storage: LocalStorage) {
      yield start
      const rest = await storage.get(key, { ...options, range })
      if (!rest) throw absentObject(join(storage.location, key))
      yield* rest
    }
    await this.put(key, replaced(this), options)
  }

  /** A folder locks nothing. */
  async lockUntil(): Promise<void> {}

  async sweep(): Promise<{ objects: number; bytes: number }> {
    return this.#reporting('sweep', INCOMING, () => sweepIncoming(this.location))
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

  probe(signal?: AbortSignal, { readOnly = false } = {}): AsyncIterable<ProbeFinding> {
    return readOnly ? lookAtFolder(this, signal) : probeFolder(this, signal)
  }

  /** Makes the repository's folder; as root, gives what it makes to `owner` or to the nearest folder's owner. */
  async create(owner?: { uid: number; gid: number }): Promise<void> {
    if (owner && process.getuid?.() === 0 && !(await statOrAbsent(this.location))) this.#folders.giveTo(owner)
    await this.#reporting('make', '', () => this.#folders.make(join(this.location, INCOMING)))
  }

  #pathOf(key: string): string {
    requireKey(key)
    return join(this.location, key)
  }

  async #fill(path: string, source: AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<void> {
    const handle = await open(path, 'wx', 0o600)
    try {
      const owner = await this.#folders.owner()
      if (owner) await handle.chown(owner.uid, owner.gid)
      for await (const chunk of source) {
        signal?.throwIfAborted()
        await writeAll(handle, chunk)
      }
      await handle.sync()
    } finally {
      await handle.close()
    }
  }

  /** Gives a finished file its name. A folder that a removal takes away at the same moment is made again. */
  async #publish(temporary: string, target: string, ifAbsent: boolean): Promise<'stored' | 'exists'> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#folders.make(dirname(target))
        // A hard link is the one call that gives a name only if nobody has it.
        if (ifAbsent) await link(temporary, target)
        else await rename(temporary, target)
        return 'stored'
      } catch (error) {
        const isTaken = ifAbsent && systemCode(error) === 'EEXIST'
        if (isTaken && !(await statOrAbsent(target))?.isDirectory()) return 'exists'
        if (systemCode(error) !== 'ENOENT' || attempt === 10) throw error
        this.#folders.forget()
      }
    }
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

  #entries(folder: string): Promise<Entry[]> {
    return this.#reporting('list', folder, () => entriesOf(join(this.location, folder)))
  }

  /** Does something with a key or a folder; a failed system call becomes a sentence that names it. */
  async #reporting<T>(doing: string, key: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      throw storageError(error, doing, join(this.location, key), this.location)
    }
  }
}

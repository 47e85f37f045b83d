import { mkdir, open, rmdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { systemCode } from '../errors.ts'
import { statOrAbsent, syncFolder } from './durable-files.ts'

type Owner = { uid: number; gid: number }

/** The folders of a local repository: made durably, given to whom the repository belongs, removed when empty. */
export class LocalFolders {
  readonly #root: string
  #owner: Promise<Owner | undefined> | undefined
  readonly #durable = new Set<string>()

  /** @param root the repository's folder, which may not exist yet */
  constructor(root: string) {
    this.#root = root
  }

  /** Whose the repository is, when that is not us and we may give files away. */
  owner(): Promise<Owner | undefined> {
    this.#owner ??= ownerToServe(this.#root)
    return this.#owner
  }

  /** Decides whose the repository will be, before anything of it exists. */
  giveTo(owner: Owner): void {
    this.#owner = Promise.resolve(owner)
  }

  /**
   * Makes a folder and its missing parents, and syncs each into its parent before it is used. One of ours that exists
   * is synced too, once: a process that made it may have been killed before it could.
   */
  async make(folder: string): Promise<void> {
    if (this.#durable.has(folder)) return
    const parent = dirname(folder)
    const isOurs = folder.startsWith(this.#root)
    const exists = (await statOrAbsent(folder))?.isDirectory() === true
    if (exists && !isOurs) return
    if (folder !== parent) await this.make(parent)
    if (!exists) await this.#makeOne(folder)
    if (!exists || folder !== this.#root) await syncFolder(parent)
    this.#durable.add(folder)
  }

  /** After a folder was found missing: nothing is known to exist any more. */
  forget(): void {
    this.#durable.clear()
  }

  /** Removes a folder, and those above it up to the root, as long as they are empty; one that fills meanwhile stays. */
  async removeEmpty(folder: string): Promise<void> {
    for (let path = folder; path.length > this.#root.length; path = dirname(path)) {
      try {
        await rmdir(path)
      } catch {
        return
      }
    }
  }

  async #makeOne(folder: string): Promise<void> {
    // Asked first: afterwards a new repository's own folder would answer, and it is still ours.
    const owner = await this.owner()
    try {
      await mkdir(folder, 0o700)
    } catch (error) {
      if (systemCode(error) === 'EEXIST') return
      throw error
    }
    if (!owner) return
    const handle = await open(folder, 'r')
    await handle.chown(owner.uid, owner.gid).finally(() => handle.close())
  }
}

/** Root, who acts for others, gives what it makes to the owner of the repository, or of the nearest folder above. */
async function ownerToServe(root: string): Promise<Owner | undefined> {
  if (process.getuid?.() !== 0) return undefined
  for (let path = root; ; path = dirname(path)) {
    const facts = await statOrAbsent(path)
    if (facts) return facts.uid === 0 ? undefined : { uid: facts.uid, gid: facts.gid }
  }
}

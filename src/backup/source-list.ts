/** One thing to copy, relative to its group's root. */
export interface SourceItem {
  path: string
  /** Bytes when it was listed. */
  size: number
  directory?: true
}

/** A file from this size on is handed out by itself, before all smaller ones. */
const LARGE_BYTES = 1024 * 1024
/** No file name holds this. */
const BETWEEN_NAMES = '\0'

/**
 * What is to be copied of one group: its folders, then its large files, the largest first, then all others folder by
 * folder. The names of small files are kept as one text a folder, since there can be millions.
 */
export class SourceList implements Iterable<SourceItem> {
  readonly #folders: SourceItem[] = []
  readonly #large: SourceItem[] = []
  readonly #small: { folder: string; names: string; sizes: Uint32Array }[] = []
  files = 0
  bytes = 0

  addFolder(path: string): void {
    this.#folders.push({ path, size: 0, directory: true })
  }

  /** @param folder relative to the group's root, empty for the root itself */
  addFiles(folder: string, files: readonly { name: string; size: number }[]): void {
    const names: string[] = []
    const sizes: number[] = []
    for (const { name, size } of files) {
      this.files++
      this.bytes += size
      if (size >= LARGE_BYTES) this.#large.push({ path: joined(folder, name), size })
      else {
        names.push(name)
        sizes.push(size)
      }
    }
    if (names.length === 0) return
    this.#small.push({ folder, names: names.join(BETWEEN_NAMES), sizes: Uint32Array.from(sizes) })
  }

  *[Symbol.iterator](): Iterator<SourceItem> {
    yield* this.#folders.sort((a, b) => (a.path < b.path ? -1 : 1))
    yield* this.#large.sort((a, b) => b.size - a.size)
    for (const { folder, names, sizes } of this.#small) {
      let at = 0
      for (const size of sizes) {
        const end = names.indexOf(BETWEEN_NAMES, at)
        yield { path: joined(folder, names.slice(at, end < 0 ? undefined : end)), size }
        at = end + 1
      }
    }
  }
}

const joined = (folder: string, name: string) => (folder === '' ? name : `${folder}/${name}`)

import { readdir } from 'node:fs/promises'
import { isAbsent } from './durable-files.ts'
import { isValidKey, type ListOptions, type ObjectFacts } from './storage.ts'

/** How many files a listing asks for at the same time. */
const MOST_STATS = 64

export interface Entry {
  name: string
  isDirectory: boolean
}

type Entries = (folder: string) => Promise<Entry[]>
type Facts = (key: string) => Promise<ObjectFacts | undefined>

/**
 * One folder in the byte order of the keys below it: a folder `a` sorts as `a/`. What no key can name is left out.
 * @param path of the folder; an absent one is empty
 */
export async function entriesOf(path: string): Promise<Entry[]> {
  const found: (Entry & { order: string })[] = []
  try {
    for (const entry of await readdir(path, { withFileTypes: true })) {
      if (entry.name.startsWith('.') || !isValidKey(entry.name)) continue
      const isDirectory = entry.isDirectory()
      if (!isDirectory && !entry.isFile()) continue
      found.push({ name: entry.name, isDirectory, order: isDirectory ? `${entry.name}/` : entry.name })
    }
  } catch (error) {
    if (!isAbsent(error)) throw error
  }
  return found.sort((a, b) => (a.order < b.order ? -1 : 1))
}

/** The files whose keys begin with `prefix`, as a storage lists them. */
export function listFiles(
  prefix: string,
  options: ListOptions,
  entries: Entries,
  facts: Facts,
): AsyncIterable<ObjectFacts> {
  const { startAfter = '', signal } = options
  return walk(prefix.slice(0, prefix.lastIndexOf('/') + 1))

  async function* walk(folder: string): AsyncIterable<ObjectFacts> {
    let files: string[] = []
    let together = 1
    for (const entry of await entries(folder)) {
      signal?.throwIfAborted()
      const key = folder + entry.name
      if (entry.isDirectory) {
        const below = `${key}/`
        const matches = below.startsWith(prefix) || prefix.startsWith(below)
        // A whole folder lies before `startAfter` unless it sorts after it or contains it.
        if (!matches || (below <= startAfter && !startAfter.startsWith(below))) continue
        yield* factsOf(files)
        files = []
        yield* walk(below)
      } else if (key.startsWith(prefix) && key > startAfter) {
        files.push(key)
        if (files.length < together) continue
        yield* factsOf(files)
        files = []
        // Whoever wants the first key only does not pay for many; whoever goes on waits less often.
        together = Math.min(2 * together, MOST_STATS)
      }
    }
    yield* factsOf(files)
  }

  async function* factsOf(keys: readonly string[]): AsyncIterable<ObjectFacts> {
    for (const found of await Promise.all(keys.map(facts))) if (found) yield found
  }
}

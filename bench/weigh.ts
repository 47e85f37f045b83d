import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'

export interface Weight {
  /** Sum of the files' lengths. */
  bytes: number
  files: number
}

/**
 * Adds up the regular files in a folder and below it.
 * @param except names of folders directly in it that do not count
 */
export async function weigh(folder: string, except: string[] = []): Promise<Weight> {
  const weight: Weight = { bytes: 0, files: 0 }
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isFile()) {
      weight.bytes += (await lstat(path)).size
      weight.files++
    } else if (entry.isDirectory() && !except.includes(entry.name)) {
      const inner = await weigh(path)
      weight.bytes += inner.bytes
      weight.files += inner.files
    }
  }
  return weight
}

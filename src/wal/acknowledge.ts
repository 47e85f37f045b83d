import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { walKey } from '../catalog/layout.ts'
import type { StorageAddress } from '../storage/storage.ts'
import {
  type Circumstances,
  makeFolder,
  noteText,
  PUSHED,
  TIME_MARGIN_NS,
  writeNote,
  writeStamp,
} from './spool.ts'

/** Notes of what is stored in every repository of a call: the launcher answers for these files without Node. */
export class Acknowledgements {
  readonly #circumstances: Circumstances
  readonly #cluster: string
  readonly #addresses: readonly StorageAddress[]

  constructor(circumstances: Circumstances, cluster: string, addresses: readonly StorageAddress[]) {
    this.#circumstances = circumstances
    this.#cluster = cluster
    this.#addresses = addresses
  }

  /**
   * Notes that a file of `pg_wal` is durable in every repository.
   * @param changedAtNs when the file was changed last, before and after it was read
   */
  add(name: string, changedAtNs: bigint): void {
    const path = join(PUSHED, name)
    writeStamp(this.#circumstances, `${path}.from`, changedAtNs - TIME_MARGIN_NS)
    writeNote(this.#circumstances, path, this.#objects(name), changedAtNs + TIME_MARGIN_NS)
  }

  /** Whether the launcher would say yes. */
  holds(name: string): boolean {
    const { root } = this.#circumstances
    const path = join(root, PUSHED, name)
    const [note, from, file] = [path, `${path}.from`, join(root, 'pg_wal', name)].map(
      (place) => statSync(place, { bigint: true, throwIfNoEntry: false })?.mtimeNs,
    )
    if (note === undefined || from === undefined || file === undefined) return false
    if (file < from || note < file) return false
    try {
      return readFileSync(path, 'utf8') === noteText(this.#circumstances, this.#objects(name))
    } catch {
      return false
    }
  }

  /** In a folder, the object itself can be seen to be there. */
  #objects(name: string): string[] {
    const key = walKey(this.#cluster, name)
    return this.#addresses.flatMap((address) =>
      address.type === 'local' ? [`object ${join(address.path, key)}`] : [],
    )
  }
}

/**
 * Makes the folder of notes, and removes those that PostgreSQL will not ask for again.
 * @param waiting the names of the files that wait to be archived
 */
export function sweepAcknowledged(root: string, waiting: ReadonlySet<string>): void {
  const folder = join(root, PUSHED)
  makeFolder(folder)
  for (const entry of readdirSync(folder)) {
    if (!waiting.has(entry.replace(/\.from$/, ''))) rmSync(join(folder, entry), { force: true })
  }
}

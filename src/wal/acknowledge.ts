import { readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { walKey } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { walForms } from '../catalog/wal-object.ts'
import {
  type Circumstances,
  makeFolder,
  noteText,
  PUSHED,
  TIME_MARGIN_NS,
  writeNote,
  writeStamp,
} from './spool.ts'

/** For so long a note is believed that speaks of a repository which is no folder. */
const UNSEEN_MS = 5 * 60 * 1000

/** Notes of what is stored in every required repository of a call: the launcher answers for these files without Node. */
export class Acknowledgements {
  readonly #circumstances: Circumstances
  readonly #cluster: string
  readonly #required: readonly Repository[]

  constructor(circumstances: Circumstances, cluster: string, repositories: readonly Repository[]) {
    this.#circumstances = circumstances
    this.#cluster = cluster
    this.#required = repositories.filter(({ required }) => required)
  }

  /**
   * Notes that a file of `pg_wal` is durable in every required repository.
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
    return this.#required.flatMap((repository) => {
      const { address } = repository.storage
      if (address.type !== 'local') return []
      return [`object ${join(address.path, walKey(this.#cluster, name, walForms(repository)[0]))}`]
    })
  }
}

/**
 * Makes the folder of notes, and removes those that PostgreSQL will not ask for again, and old ones of objects that the
 * launcher cannot see: a bucket may have been emptied since.
 * @param waiting the names of the files that wait to be archived
 */
export function sweepAcknowledged(
  root: string,
  waiting: ReadonlySet<string>,
  repositories: readonly Repository[],
): void {
  const folder = join(root, PUSHED)
  makeFolder(folder)
  const canBeSeen = ({ required, storage }: Repository) => !required || storage.address.type === 'local'
  const oldest = repositories.every(canBeSeen) ? 0 : Date.now() - UNSEEN_MS
  for (const entry of readdirSync(folder)) {
    const path = join(folder, entry)
    const isWaiting = waiting.has(entry.replace(/\.from$/, ''))
    if (!isWaiting || (oldest > 0 && statSync(path).ctimeMs < oldest)) rmSync(path, { force: true })
  }
}

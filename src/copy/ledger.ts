import { isDeepStrictEqual } from 'node:util'
import type { StoredObject } from '../catalog/backup-record.ts'
import { discard } from '../catalog/holder.ts'
import { removeBackup } from '../catalog/remove-backup.ts'
import type { Repository } from '../catalog/repository.ts'
import { readObject, type Storage } from '../storage/storage.ts'

interface Entry<Kind> {
  /** The sum of the object in the source. */
  of: string
  object: Kind
}

/** What of a backup's record, of either kind, tells which backup it is. */
interface Copied {
  cluster: string
  id: string
  finishedAt: string
}

/** What a ledger is of: with another source or other keys, what is stored is of no use. */
interface Subject {
  finishedAt: string
  recipients: readonly string[]
}

/**
 * Which objects of a backup that is being copied are in the destination: `copying.json` in its folder, until the backup is
 * complete. Of an object that is encrypted anew nothing else would tell whether it is all there. A copy that was killed goes on
 * from it.
 */
export class CopyLedger<Kind extends StoredObject> {
  readonly #storage: Storage
  readonly #folder: string
  readonly #subject: Subject
  readonly #entries: Map<string, Entry<Kind>>
  #writing: Promise<unknown> = Promise.resolve()

  private constructor(storage: Storage, folder: string, subject: Subject, entries: Map<string, Entry<Kind>>) {
    this.#storage = storage
    this.#folder = folder
    this.#subject = subject
    this.#entries = entries
  }

  /** Goes on with what an earlier run has left, or removes it. */
  static async open<Kind extends StoredObject>(
    { storage, keys }: Repository,
    { cluster, id, finishedAt }: Copied,
    folder: string,
  ): Promise<CopyLedger<Kind>> {
    const subject = { finishedAt, recipients: keys.sealer?.recipients ?? [] }
    const known = parse<Kind>(await readObject(storage, keyIn(folder)))
    const fits = known !== undefined && isDeepStrictEqual(known.subject, subject)
    if (!fits) await removeBackup(storage, cluster, id)
    return new CopyLedger(storage, folder, subject, new Map(fits ? known.entries : []))
  }

  /** How an object lies in the destination, where all of it does. */
  async find({ name, sha256 }: Kind): Promise<Kind | undefined> {
    const entry = this.#entries.get(name)
    if (entry?.of !== sha256) return undefined
    const found = await this.#storage.stat(this.#folder + entry.object.name)
    return found?.bytes === entry.object.bytes ? entry.object : undefined
  }

  /** Notes an object that was stored. */
  async add({ name, sha256 }: Kind, object: Kind): Promise<void> {
    this.#entries.set(name, { of: sha256, object })
    const write = () =>
      this.#storage.put(
        keyIn(this.#folder),
        Buffer.from(`${JSON.stringify({ subject: this.#subject, entries: [...this.#entries] })}\n`),
      )
    const written = this.#writing.then(write)
    this.#writing = written.catch(() => {})
    await written
  }

  /** For when all objects are stored: the backup's folder is to hold nothing else, or, where nothing may be removed, an empty one. */
  async remove(): Promise<void> {
    await discard(this.#storage, keyIn(this.#folder))
  }
}

const keyIn = (folder: string) => `${folder}copying.json`

function parse<Kind>(
  bytes: Buffer | undefined,
): { subject: unknown; entries: [string, Entry<Kind>][] } | undefined {
  try {
    return JSON.parse(bytes?.toString('utf8') ?? '')
  } catch {
    return undefined
  }
}

import { randomBytes } from 'node:crypto'
import { Sealer } from '../archive/age.ts'
import { Tee } from '../archive/tee.ts'
import type { StoredObject } from '../catalog/backup-record.ts'
import { addressOf, openRepository } from '../catalog/open-repository.ts'
import { putObject } from '../catalog/put-object.ts'
import type { Repository, RepositoryAddress } from '../catalog/repository.ts'

/** By the repository's name. */
export type StoredIn = Record<string, StoredObject>

/** How a worker opens the same store. */
export interface BackupStoreAddress {
  repositories: RepositoryAddress[]
  folder: string
  indexRecipient: string | undefined
  token: string
  /** Shared: a 1 for each repository that was given up. */
  lost: Int32Array<SharedArrayBuffer>
}

export interface PutOptions {
  signal?: AbortSignal
  /** It has to be read once more before the backup ends, on a host that may have no secret key. */
  isIndex?: boolean
}

/**
 * The folder of one backup, in several repositories at once. What is put is produced once, encrypted for each repository,
 * and stored in all of them side by side. A repository that fails is given up, for the rest of this backup, and the
 * others go on; the last one's failure is the backup's.
 */
export class BackupStore {
  /** The backup's folder, ending in `/`. */
  readonly folder: string
  /** Says of a stored shard from which run it is. */
  readonly token: string
  readonly #repositories: readonly Repository[]
  readonly #indexRecipient: string | undefined
  readonly #lost: Int32Array<SharedArrayBuffer>
  readonly #onLost: (repository: string, error: unknown) => void

  /**
   * @param indexRecipient the public key of this run, for which indexes are encrypted too
   * @param onLost is told of each repository that is given up, once
   */
  constructor(
    repositories: readonly Repository[],
    folder: string,
    options: {
      indexRecipient: string | undefined
      onLost: (repository: string, error: unknown) => void
      token?: string
      lost?: Int32Array<SharedArrayBuffer>
    },
  ) {
    this.folder = folder
    this.token = options.token ?? randomBytes(9).toString('hex')
    this.#repositories = repositories
    this.#indexRecipient = options.indexRecipient
    this.#lost = options.lost ?? new Int32Array(new SharedArrayBuffer(4 * repositories.length))
    this.#onLost = options.onLost
  }

  /** In a worker. */
  static open(
    address: BackupStoreAddress,
    onLost: (repository: string, error: unknown) => void,
  ): BackupStore {
    return new BackupStore(address.repositories.map(openRepository), address.folder, { ...address, onLost })
  }

  /** For a worker, which writes only. */
  async address(): Promise<BackupStoreAddress> {
    return {
      repositories: await Promise.all(this.#repositories.map((each) => addressOf(each, 'write'))),
      folder: this.folder,
      indexRecipient: this.#indexRecipient,
      token: this.token,
      lost: this.#lost,
    }
  }

  /** Of all of them, also those that were given up meanwhile. */
  get names(): string[] {
    return this.#repositories.map(({ name }) => name)
  }

  /** Those that were not given up. */
  get repositories(): Repository[] {
    return this.#repositories.filter((_, index) => Atomics.load(this.#lost, index) === 0)
  }

  /** What another thread has to say of a repository that it gave up. */
  tell(name: string, error: unknown): void {
    this.#onLost(name, error)
  }

  /** Gives a repository up. */
  lose(name: string, error: unknown): void {
    const index = this.#repositories.findIndex((repository) => repository.name === name)
    if (Atomics.exchange(this.#lost, index, 1) === 0) this.#onLost(name, error)
  }

  /**
   * Does something in each repository, side by side, and gives up those in which it fails.
   * @param fault is asked first when something failed, and throws what is no fault of the repositories
   * @returns what came of it, by the repository's name
   * @throws what failed, where it worked in none
   */
  async each<T>(
    work: (repository: Repository) => Promise<T>,
    fault: () => void = () => {},
    live: readonly Repository[] = this.repositories,
  ): Promise<Record<string, T>> {
    const outcomes = await Promise.allSettled(live.map(work))
    const failure = outcomes.find((outcome) => outcome.status === 'rejected')
    if (failure) fault()
    const results: Record<string, T> = {}
    for (const [index, outcome] of outcomes.entries()) {
      const { name } = live[index]!
      if (outcome.status === 'fulfilled') results[name] = outcome.value
      else this.lose(name, outcome.reason)
    }
    if (this.repositories.length > 0 || Object.keys(results).length > 0) return results
    throw failure?.reason ?? new Error('no repository is left')
  }

  /**
   * Stores one object everywhere.
   * @param name without `.age`, which is added where it is encrypted
   * @param pieces each may be reused as soon as the next one is asked for
   */
  async put(name: string, pieces: AsyncIterable<Buffer>, options: PutOptions = {}): Promise<StoredIn> {
    const live = this.repositories
    const tee = new Tee(pieces, live.length)
    const place = async (repository: Repository) => {
      const reader = live.indexOf(repository)
      try {
        return await this.#putOne(repository, name, tee.branches[reader]!, options)
      } finally {
        await tee.leave(reader).catch(() => {})
      }
    }
    const fault = () => {
      options.signal?.throwIfAborted()
      if (tee.fault) throw tee.fault.error
    }
    // Those that the stream was divided for: another thread may give one of them up just now.
    return this.each(place, fault, live)
  }

  /** Stores one small object everywhere, which is not the same in all. */
  putEach(
    name: string,
    piecesFor: (repository: Repository) => Iterable<Buffer>,
    options: PutOptions = {},
  ): Promise<StoredIn> {
    const place = (repository: Repository) => this.#putOne(repository, name, piecesFor(repository), options)
    return this.each(place, () => options.signal?.throwIfAborted())
  }

  #putOne(
    repository: Repository,
    name: string,
    pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
    { signal, isIndex = false }: PutOptions,
  ): Promise<StoredObject> {
    const sealer = this.#sealerOf(repository, isIndex)
    return putObject(repository.storage, this.folder, name, pieces, { sealer, signal })
  }

  #sealerOf({ keys: { sealer } }: Repository, isIndex: boolean): Sealer | undefined {
    if (!sealer || !isIndex || this.#indexRecipient === undefined) return sealer
    return new Sealer([...sealer.recipients, this.#indexRecipient])
  }
}

import { type Catalog, loadCatalog } from '../catalog/catalog.ts'
import { type ClusterIdentity, claimIdentity } from '../catalog/identity.ts'
import { acquireLock, type Lock } from '../catalog/lock.ts'
import type { Repository } from '../catalog/repository.ts'
import { reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'

/** A repository that a backup is being written to: locked, known to be this cluster's, and swept. */
export interface Destination {
  repository: Repository
  lock: Lock
  /** What it held before. */
  catalog: Catalog
}

interface OpeningContext {
  /** Makes a repository that is not there yet, where that is allowed. */
  makeIfNew: (repository: Repository) => Promise<void>
  events: Events
  signal: AbortSignal
  now: () => Date
}

/**
 * The repositories of a running backup. One in which something fails is given up and the others go on; with the last one,
 * all is lost.
 */
export class Destinations implements AsyncDisposable {
  /** Why repositories were given up, by their names. */
  readonly failures = new Map<string, unknown>()
  readonly #opened: Destination[] = []
  readonly #lost = new AbortController()
  readonly #events: Events
  readonly #total: number

  private constructor(total: number, events: Events) {
    this.#total = total
    this.#events = events
  }

  /**
   * Locks the repositories and looks at what they hold.
   * @throws what the first one failed with, when none is left
   */
  static async open(
    repositories: readonly Repository[],
    cluster: string,
    identity: ClusterIdentity,
    context: OpeningContext,
  ): Promise<Destinations> {
    const destinations = new Destinations(repositories.length, context.events)
    await Promise.all(
      repositories.map((repository) =>
        destinations.#open(repository, cluster, identity, context).catch((error) => {
          destinations.fail(repository.name, error)
        }),
      ),
    )
    destinations.#opened.sort(
      (a, b) => repositories.indexOf(a.repository) - repositories.indexOf(b.repository),
    )
    if (destinations.live.length > 0) return destinations
    await destinations[Symbol.asyncDispose]()
    context.signal.throwIfAborted()
    throw destinations.failures.get(repositories[0]!.name)
  }

  async #open(
    repository: Repository,
    cluster: string,
    identity: ClusterIdentity,
    { makeIfNew, events, signal, now }: OpeningContext,
  ): Promise<void> {
    const { storage, name } = repository
    await makeIfNew(repository)
    const onWarning = (text: string) => events.emit('warning', { text })
    const lock = await acquireLock(storage, cluster, { purpose: 'backup', now, signal, onWarning })
    try {
      await claimIdentity(storage, cluster, identity)
      await storage.sweep()
      const catalog = await loadCatalog(storage, cluster, { believing: true })
      lock.lost.addEventListener('abort', () => this.fail(name, lock.lost.reason), { once: true })
      this.#opened.push({ repository, lock, catalog })
    } catch (error) {
      await lock[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Those that were not given up, in the order of the configuration. */
  get live(): Destination[] {
    return this.#opened.filter(({ repository }) => !this.failures.has(repository.name))
  }

  /** That of a repository that was opened. */
  of(repository: Repository): Destination {
    return this.#opened.find((destination) => destination.repository === repository)!
  }

  /** All that were opened, also those that were given up later. */
  get opened(): readonly Destination[] {
    return this.#opened
  }

  /**
   * Asks each repository something, and gives up those that give no answer.
   * @throws what the last one failed with
   */
  async each<T>(
    ask: (destination: Destination) => Promise<T>,
  ): Promise<{ destination: Destination; answer: T }[]> {
    const asked = this.live.map(async (destination) => ({ destination, answer: await ask(destination) }))
    const outcomes = await Promise.allSettled(asked)
    const { live } = this
    for (const [index, outcome] of outcomes.entries()) {
      if (outcome.status === 'rejected') this.fail(live[index]!.repository.name, outcome.reason)
    }
    this.#lost.signal.throwIfAborted()
    return outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []))
  }

  /** Aborts when no repository is left, with what the last one failed with. */
  get lost(): AbortSignal {
    return this.#lost.signal
  }

  /** Gives a repository up; of several failures the first one counts. */
  fail(name: string, error: unknown): void {
    if (this.failures.has(name)) return
    this.failures.set(name, error)
    if (this.#total > 1) {
      this.#events.emit('warning', { text: `no backup in repository "${name}": ${reasonOf(error)}` })
    }
    if (this.failures.size === this.#total) this.#lost.abort(error)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { lock } of this.#opened) await lock[Symbol.asyncDispose]()
  }
}

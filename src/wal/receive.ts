import { setTimeout as wait } from 'node:timers/promises'
import { updateCatalog } from '../catalog/catalog.ts'
import type { Repository } from '../catalog/repository.ts'
import { reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import type { SenderFacts } from '../postgres/replication-slot.ts'
import { Deposits, removeStored } from './deposits.ts'
import { describeSynchronous, isFinal, receiveOnce, type SessionOptions } from './receive-session.ts'
import type { StoredFile } from './received-deposit.ts'
import { holdFolder, makeReceivingFolder } from './received-files.ts'

export interface ReceiveRequest
  extends Pick<SessionOptions, 'cluster' | 'connection' | 'repositories' | 'slot' | 'synchronous' | 'env'> {
  /** Where segments are received; made where there is none. */
  directory: string
  /** zstd level. */
  level: number
  /** How often the unfinished segment is stored, milliseconds. */
  intervalMs: number
}

export interface ReceiveResult {
  /** Whole segments that the first required repository got. */
  segments: number
  /** Their plain bytes. */
  bytes: number
}

/** How often the folder is looked at. */
const LOOK_MS = 500
/** How often the catalog is brought up to date. */
const CATALOG_MS = 60_000
/** How long a lost server, or a repository that is away, is left alone at most. */
const LONGEST_PAUSE_MS = 5000
/** How long the last WAL may take to be stored when we are stopped. */
const LAST_STORE_MS = 10_000

/**
 * Receives the WAL of a server as it is written, and stores it in every repository, until the signal comes: whole
 * segments as they are finished, the unfinished one every few seconds. Lost connections and repositories that are away
 * are waited for; what is not stored stays in the folder.
 * @returns when it was told to stop, and what was received is stored
 * @throws PgrecallError what people have to mend
 */
export async function receiveWal(
  request: ReceiveRequest,
  { events, signal }: { events: Events; signal: AbortSignal },
): Promise<ReceiveResult> {
  await makeReceivingFolder(request.directory)
  await using _held = await holdFolder(request.directory)
  return await new Receiving(request, events).run(signal)
}

/** Two works side by side: one receives into the folder, the other stores from it, a loop for each repository. */
class Receiving {
  readonly #request: ReceiveRequest
  readonly #events: Events
  readonly #deposits: Deposits[]
  readonly #result: ReceiveResult = { segments: 0, bytes: 0 }
  /** No more is to come soon, so what there is is stored at once. */
  #isQuiet = true

  constructor(request: ReceiveRequest, events: Events) {
    this.#request = request
    this.#events = events
    this.#deposits = request.repositories.map(
      (repository) => new Deposits({ ...request, repository, onStored: (file) => this.#tellStored(file) }),
    )
  }

  async run(stop: AbortSignal): Promise<ReceiveResult> {
    const over = new AbortController()
    const broken = new AbortController()
    const storing = Promise.all(
      this.#deposits.map((deposit) =>
        this.#keepStoring(deposit, over.signal).catch((error) => {
          broken.abort(error)
          throw error
        }),
      ),
    )
    const receiving = this.#keepReceiving(AbortSignal.any([stop, broken.signal])).finally(() => over.abort())
    const failure = (await Promise.allSettled([storing, receiving])).find(
      ({ status }) => status === 'rejected',
    )
    if (failure?.status === 'rejected') throw failure.reason
    this.#events.emit('progressEnd', { task: TASK })
    return this.#result
  }

  /** Whose segments are counted. */
  get #counted(): string | undefined {
    return this.#deposits.find(({ repository }) => repository.required)?.repository.name
  }

  async #keepReceiving(stop: AbortSignal): Promise<void> {
    let isFirst = true
    /** Why it does not work at the moment, in the words that were told. */
    const told = new Set<string>()
    for (let pause = LOOK_MS; !stop.aborted; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      let steady: NodeJS.Timeout | undefined
      const onStart = (facts: SenderFacts, slotIsNew: boolean) => {
        if (isFirst) this.#tellStart(facts, slotIsNew)
        isFirst = false
        // It may be over at once: another receiver holds the slot, or the WAL is gone.
        steady = setTimeout(() => {
          if (told.size > 0)
            this.#tell('step', 'receiving', `Receiving again, from timeline ${facts.timeline}`)
          this.#isQuiet = false
          told.clear()
          pause = LOOK_MS
        }, STEADY_MS)
      }
      try {
        const end = await receiveOnce(this.#session(onStart), stop)
        if (!stop.aborted) this.#tellLost(end.reason, told)
      } catch (error) {
        if (stop.aborted) return
        if (isFinal(error, isFirst)) throw error
        this.#tellLost(reasonOf(error), told)
      } finally {
        clearTimeout(steady)
        this.#isQuiet = true
      }
      await wait(pause, undefined, { signal: stop }).catch(() => {})
    }
  }

  #session(onStart: SessionOptions['onStart']): SessionOptions {
    return {
      ...this.#request,
      onStart,
      onWarning: (text) => this.#tell('warning', 'warning', text),
    }
  }

  async #keepStoring(deposits: Deposits, over: AbortSignal): Promise<void> {
    const { repository } = deposits
    const deadline = new AbortController()
    over.addEventListener('abort', () => setTimeout(() => deadline.abort(), LAST_STORE_MS).unref())
    let pause = LOOK_MS
    let catalogAt = performance.now()
    for (let isLast = false; !isLast; ) {
      // What was received up to here is in the folder when receiving is over.
      isLast = over.aborted
      try {
        await deposits.store({ all: isLast || this.#isQuiet, signal: deadline.signal })
        if (deposits.isInTrouble) this.#tellBack(repository, deposits.endTrouble())
        pause = LOOK_MS
        await removeStored(this.#request.directory, this.#deposits)
        if (isLast || performance.now() - catalogAt > CATALOG_MS) {
          await this.#updateCatalog(repository)
          catalogAt = performance.now()
        }
      } catch (error) {
        if (!deadline.signal.aborted && repository.required && isFinal(error, false)) throw error
        if (isLast || !deposits.isInTrouble) this.#tellTrouble(repository, error, isLast)
        deposits.beginTrouble()
        pause = Math.min(pause * 2, LONGEST_PAUSE_MS)
      }
      if (!isLast) await wait(pause, undefined, { signal: over }).catch(() => {})
    }
  }

  /** It is derived: whoever needs it next makes it good. */
  async #updateCatalog({ storage, name }: Repository): Promise<void> {
    await updateCatalog(storage, this.#request.cluster, new Date()).catch((error) =>
      this.#events.emit('detail', { text: `The catalog of "${name}" was not updated: ${reasonOf(error)}` }),
    )
  }

  #tellStart(facts: SenderFacts, slotIsNew: boolean): void {
    const { cluster, directory, slot, synchronous, intervalMs, repositories } = this.#request
    const names = repositories.map(({ name }) => name).join(', ')
    const how = `${synchronous ? 'synchronously ' : ''}through slot "${slot}"${slotIsNew ? ' (made now)' : ''}`
    this.#tell(
      'step',
      'started',
      `Receiving WAL of cluster "${cluster}" ${how} into ${directory}, for ${names}; the unfinished segment is stored every ${intervalMs / 1000} s`,
      { cluster, slot, slotIsNew, directory, timeline: facts.timeline, synchronous },
    )
    const advice = describeSynchronous(facts.synchronousStandbyNames, synchronous)
    if (advice) this.#tell('warning', 'warning', advice)
  }

  #tellStored({ repository, name, bytes, isWhole }: StoredFile): void {
    if (isWhole && repository === this.#counted && !name.endsWith('.history')) {
      this.#result.segments++
      this.#result.bytes += bytes
      this.#events.emit('progress', {
        task: TASK,
        bytes: this.#result.bytes,
        total: undefined,
        items: this.#result.segments,
      })
    }
    const what = isWhole ? name : `${name}, ${bytes} bytes of it,`
    this.#tell('detail', isWhole ? 'stored' : 'stored-partial', `Stored ${what} in "${repository}"`, {
      repository,
      file: name,
      bytes,
    })
  }

  /** A reason is told once, however often it comes up. */
  #tellLost(reason: string, told: Set<string>): void {
    if (!told.has(reason))
      this.#tell('warning', 'lost', `not receiving: ${reason}; trying again until it works`, { reason })
    told.add(reason)
  }

  #tellTrouble({ name, required }: Repository, error: unknown, isLast: boolean): void {
    const { directory } = this.#request
    const then = isLast ? 'it is stored when wal-receive runs again' : 'trying again until it can be'
    const what = required
      ? `in repository "${name}": ${reasonOf(error)}; it is kept in ${directory}, ${then}`
      : `in the optional repository "${name}": ${reasonOf(error)}; "pgrecall copy" brings later what it lacks`
    this.#tell('warning', 'repository', `WAL cannot be stored ${what}`, { repository: name })
  }

  #tellBack({ name }: Repository, missed: number): void {
    const lacks = missed === 0 ? '' : `; it lacks ${missed} files, which "pgrecall copy" brings`
    this.#tell('step', 'repository', `Repository "${name}" can be written again${lacks}`)
  }

  #tell(
    kind: 'step' | 'warning' | 'detail',
    event: string,
    text: string,
    facts: Record<string, unknown> = {},
  ): void {
    if (kind !== 'detail') this.#events.emit(kind, { text })
    this.#events.emit('detail', { text, facts: { event, ...facts, ...(kind === 'warning' && { text }) } })
  }
}

const TASK = 'Receiving WAL'
/** After how long a connection counts as one. */
const STEADY_MS = 1500

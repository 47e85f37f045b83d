import { setTimeout as wait } from 'node:timers/promises'
import { PgrecallError, reasonOf } from '../errors.ts'
import { readObject, type Storage } from '../storage/storage.ts'
import { describeHolder, discard, type Holder, newHolder, parseHolder, RENEW_MS, stateOf } from './holder.ts'
import { locksPrefix } from './layout.ts'

/** How often the first of those who came at the same moment looks whether the others have stepped back. */
const LOOKS = 8

/**
 * The lock of a cluster's writers in one repository. It needs nothing of the store but a list that shows what was written, so it
 * holds in stores without conditional writes too: everybody writes a claim under a name of its own, and then lists. Of two
 * claims, the one that was written later sees the other, so at most one sees itself alone.
 *
 * A claim's name begins with a number, `locks/0000000001-<holder>.json`. A lock that a dead process left is broken by a claim
 * with a higher one, by which the dead one, should it wake up, sees that it has lost.
 */
export interface Lock extends AsyncDisposable {
  /**
   * Whether it was taken from another host that only fell silent. That one may wake up and go on for a moment, so nothing
   * that it was writing may be touched.
   */
  readonly mayHaveRival: boolean
  /** Aborts when the lock is no longer ours: the work that it covers must stop. */
  readonly lost: AbortSignal
  /** Looks once more, for just before a commit. @throws PgrecallError `busy` when the lock is no longer ours */
  confirm(): Promise<void>
}

/** How long a lock that looks abandoned is watched: a renewal may have to wait for a connection that fell silent, and another. */
const WATCH_MS = 4 * RENEW_MS
const LOOK_MS = RENEW_MS / 2

export interface LockOptions {
  /** What the holder is doing, for the message that others get: "backup", "retention". */
  purpose: string
  now: () => Date
  signal?: AbortSignal
  onWarning?: (text: string) => void
  /** Lets time pass; the timer of Node when left out. */
  pause?: (ms: number, signal: AbortSignal | undefined) => Promise<unknown>
}

/**
 * Takes the lock, or throws.
 * @throws PgrecallError `busy` when a living process holds it
 */
export async function acquireLock(storage: Storage, cluster: string, options: LockOptions): Promise<Lock> {
  for (let attempt = 1; ; attempt++) {
    const dead = await readLocks(storage, cluster)
    let mayHaveRival = false
    for (const { key, holder } of dead) {
      if ((await requireDead(storage, cluster, key, holder, options)) === 'silent') mayHaveRival = true
    }
    const holder = await newHolder(options.purpose, options.now())
    const number = String(numberIn(dead.at(-1)?.key) + 1).padStart(10, '0')
    const key = `${locksPrefix(cluster)}${number}-${holder.id}.json`
    await storage.put(key, encode(holder))
    if (await prevails(storage, cluster, key, dead, options)) {
      await clear(storage, dead)
      return new HeldLock(storage, cluster, key, holder, mayHaveRival, options)
    }
    await discard(storage, key)
    if (attempt === 5) {
      throw new PgrecallError(
        'busy',
        `another pgrecall is taking the lock of cluster "${cluster}" in ${storage.location}`,
        {
          hint: 'wait for it to end, and run this again',
        },
      )
    }
    await pause(50 + Math.random() * 500, options)
  }
}

/** Who holds the lock, or may hold it; undefined where it is free. */
export async function lockHolder(storage: Storage, cluster: string, now: Date): Promise<Holder | undefined> {
  for (const { holder } of await readLocks(storage, cluster))
    if (holder && (await stateOf(holder, now)) !== 'dead') return holder
  return undefined
}

/**
 * Whether a claim is the only living one. Who sees one that comes before its own gives way, so the first of those who came at
 * the same moment waits for that; one that does not give way has seen itself alone before ours was written, and holds the lock.
 */
async function prevails(
  storage: Storage,
  cluster: string,
  key: string,
  dead: readonly StoredLock[],
  options: LockOptions,
): Promise<boolean> {
  for (let look = 1; ; look++) {
    const living = (await readLocks(storage, cluster)).filter(
      (entry) => entry.holder && !dead.some((known) => known.key === entry.key),
    )
    const place = living.findIndex((entry) => entry.key === key)
    if (place === 0 && living.length === 1) return true
    if (place !== 0 || look === LOOKS) return false
    await pause(100 + Math.random() * 300, options)
  }
}

/** Removes what others have left, as far as that is allowed. */
async function clear(storage: Storage, dead: readonly StoredLock[]): Promise<void> {
  for (const { key } of dead.filter(({ holder }) => holder)) await discard(storage, key)
  for (const { key } of dead.filter(({ holder }) => !holder)) {
    const isGone = await storage.remove(key).then(
      () => true,
      () => false,
    )
    if (!isGone) return
  }
}

async function requireDead(
  storage: Storage,
  cluster: string,
  key: string,
  holder: Holder | undefined,
  options: LockOptions,
): Promise<'dead' | 'silent'> {
  if (!holder) return 'dead'
  let wasSilent = false
  let state = await stateOf(holder, options.now())
  if (state === 'suspect') {
    // Clocks of two hosts may differ by minutes; only watching tells whether the other one still renews.
    options.onWarning?.(
      `the lock of ${describeHolder(holder)} looks abandoned; watching it before it is broken`,
    )
    wasSilent = true
    state = (await renewsWithin(WATCH_MS, storage, key, holder, options)) ? 'alive' : 'dead'
  }
  if (state === 'alive') {
    throw new PgrecallError(
      'busy',
      `cluster "${cluster}" in ${storage.location} is locked by ${describeHolder(holder)}`,
      {
        hint: 'wait for it to end, and run this again; a lock that a dead process left is broken by itself',
      },
    )
  }
  options.onWarning?.(`broke the lock that ${describeHolder(holder)} left behind`)
  return wasSilent ? 'silent' : 'dead'
}

/** Watches a lock. @returns at once when it is renewed; false when it was not, or went away */
async function renewsWithin(
  ms: number,
  storage: Storage,
  key: string,
  { id, renewedAt }: Holder,
  options: LockOptions,
): Promise<boolean> {
  for (let watched = 0; watched < ms; watched += LOOK_MS) {
    await pause(LOOK_MS, options)
    const now = parseHolder(await readObject(storage, key))
    if (!now) return false
    if (now.id !== id || now.renewedAt !== renewedAt) return true
  }
  return false
}

interface StoredLock {
  key: string
  /** Undefined when it was released where nothing may be removed, or the record cannot be read. */
  holder: Holder | undefined
}

async function readLocks(storage: Storage, cluster: string): Promise<StoredLock[]> {
  const locks: StoredLock[] = []
  for await (const { key, bytes } of storage.list(locksPrefix(cluster))) {
    const record = bytes === 0 ? Buffer.alloc(0) : await readObject(storage, key)
    if (record) locks.push({ key, holder: parseHolder(record) })
  }
  return locks
}

class HeldLock implements Lock {
  readonly mayHaveRival: boolean
  readonly #storage: Storage
  readonly #cluster: string
  readonly #key: string
  readonly #holder: Holder
  readonly #lost = new AbortController()
  readonly #timer: NodeJS.Timeout
  readonly #onWarning: LockOptions['onWarning']
  #renewal: Promise<void> = Promise.resolve()

  constructor(
    storage: Storage,
    cluster: string,
    key: string,
    holder: Holder,
    mayHaveRival: boolean,
    options: LockOptions,
  ) {
    this.mayHaveRival = mayHaveRival
    this.#storage = storage
    this.#cluster = cluster
    this.#key = key
    this.#holder = holder
    this.#onWarning = options.onWarning
    this.#timer = setInterval(() => {
      this.#renewal = this.#renewal
        .then(() => this.#renew(options.now()))
        .catch((error) => {
          options.onWarning?.(`could not renew the lock: ${error.message}`)
        })
    }, RENEW_MS)
    this.#timer.unref()
  }

  async confirm(): Promise<void> {
    if (await this.#isLost()) throw lockWasBroken(this.#cluster)
  }

  get lost(): AbortSignal {
    return this.#lost.signal
  }

  async #renew(now: Date): Promise<void> {
    if (await this.#isLost()) {
      this.#lost.abort(lockWasBroken(this.#cluster))
      return
    }
    await this.#storage.put(this.#key, encode({ ...this.#holder, renewedAt: now.toISOString() }))
  }

  /** A renewal that was long on its way may have put ours back after somebody else had broken it: his has a higher number. */
  async #isLost(): Promise<boolean> {
    const locks = await readLocks(this.#storage, this.#cluster)
    const isBehind = locks.some((entry) => entry.holder && numberIn(entry.key) > numberIn(this.#key))
    return isBehind || !(await this.#isOurs())
  }

  async #isOurs(): Promise<boolean> {
    return parseHolder(await readObject(this.#storage, this.#key))?.id === this.#holder.id
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer)
    await this.#renewal
    // One that stays behind is broken by the next; it must not hide how the work itself ended.
    await this.#isOurs()
      .then((isOurs) => (isOurs ? discard(this.#storage, this.#key) : undefined))
      .catch((error) => this.#onWarning?.(`could not release the lock: ${reasonOf(error)}`))
  }
}

function pause(ms: number, { signal, pause: given }: LockOptions): Promise<unknown> {
  return given ? given(ms, signal) : wait(ms, undefined, signal && { signal })
}

function lockWasBroken(cluster: string): PgrecallError {
  return new PgrecallError('busy', `another host broke our lock of cluster "${cluster}" and took it`, {
    hint: 'this host could not renew the lock for minutes; run this again when the other one has ended',
  })
}

/** 0 where there is none. */
const numberIn = (key = '') => Number.parseInt(key.slice(key.lastIndexOf('/') + 1), 10) || 0
const encode = (holder: Holder) => Buffer.from(`${JSON.stringify(holder)}\n`)

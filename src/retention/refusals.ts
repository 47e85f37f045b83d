import type { PgrecallError } from '../errors.ts'
import type { Events } from '../events.ts'
import type { Storage } from '../storage/storage.ts'
import { secondOf } from './holds.ts'

/**
 * What the store does not let go. A lock with an end is what was asked for when the object was stored: what it keeps goes in a
 * later run, and nobody has to know. Anything else, such as a legal hold, is told in a sentence.
 */
export class Refusals {
  readonly sentences: string[] = []
  readonly #storage: Storage
  readonly #events: Events
  readonly #now: () => Date

  constructor(storage: Storage, events: Events, now: () => Date) {
    this.#storage = storage
    this.#events = events
    this.#now = now
  }

  /** @returns until when the object is locked, where that is why it stays */
  async note(key: string, error: PgrecallError): Promise<Date | undefined> {
    const until = (await this.#storage.stat(key))?.lockedUntil
    if (until && until > this.#now()) {
      this.#events.emit('detail', { text: `${key} is locked until ${secondOf(until)} and stays` })
      return until
    }
    this.sentences.push(error.message)
    this.#events.emit('warning', { text: error.message })
    return undefined
  }
}

import { reasonOf } from '../errors.ts'
import { tellsOfLostServer } from './client-errors.ts'

/** Statements that the server refused, and what it said to the first of them. */
export interface RestoreErrors {
  count: number
  samples: string[]
}

const MOST_SAMPLES = 20
/** A message can quote a whole statement. */
const LONGEST_MESSAGE = 2000
/**
 * What a program of 17 and later tells every server, and an older one does not know; its default is this.
 * @see src/bin/pg_dump/pg_backup_archiver.c: _doSetFixedOutputState
 */
const SETTING_OF_LATER_SERVERS = /\nCommand was: SET transaction_timeout = 0;\s*$/

/** What all messages of a restore came to. */
export interface RestoreOutcome {
  errors: RestoreErrors
  /** How many errors it says at last that it has passed over: only when it came to its end. */
  ignored: number | undefined
  /** What made it end, if it gave up. */
  lastError: string | undefined
  /** The error by which the server was lost. */
  loss: string | undefined
}

/** The messages of `pg_restore`: an error tells its statement, and what else the server said, in lines behind. */
export class RestoreMessages {
  readonly #onMessage: (text: string) => void
  readonly #errors: RestoreErrors = { count: 0, samples: [] }
  #message: { isError: boolean; text: string } | undefined
  #ignored: number | undefined
  #harmless = 0
  #lastError: string | undefined
  #loss: string | undefined

  constructor(onMessage: (text: string) => void) {
    this.#onMessage = onMessage
  }

  push(line: string): void {
    const said = /^pg_restore: +(.*)/.exec(line)?.[1]
    if (said === undefined) {
      if (this.#message && this.#message.text.length < LONGEST_MESSAGE) this.#message.text += `\n${line}`
      return
    }
    const detail = /^(?:detail|hint): +(.*)/.exec(said)?.[1]
    if (detail !== undefined) {
      this.push(detail)
      return
    }
    this.#tell()
    const [, level, text] = /^(error|warning): +(.*)/.exec(said) ?? []
    if (text === undefined) return
    const ignored = level === 'warning' ? /^errors ignored on restore: (\d+)/.exec(text)?.[1] : undefined
    this.#ignored = ignored === undefined ? undefined : Number(ignored)
    if (ignored === undefined) this.#message = { isError: level === 'error', text }
  }

  finish(): RestoreOutcome {
    this.#tell()
    const ignored = this.#ignored === undefined ? undefined : this.#ignored - this.#harmless
    return { errors: this.#errors, ignored, lastError: this.#lastError, loss: this.#loss }
  }

  #tell(): void {
    if (!this.#message) return
    const { isError, text } = this.#message
    this.#message = undefined
    if (isError && SETTING_OF_LATER_SERVERS.test(text)) {
      this.#harmless++
      return
    }
    const told = reasonOf(text)
    this.#onMessage(told)
    if (!isError) return
    this.#errors.count++
    if (this.#errors.samples.length < MOST_SAMPLES) this.#errors.samples.push(told)
    // What it says of its workers is a consequence.
    if (!/worker process/.test(text)) this.#lastError = text
    if (tellsOfLostServer(text)) this.#loss ??= text
  }
}

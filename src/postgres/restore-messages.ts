import { reasonOf } from '../errors.ts'

/** Statements that the server refused, and what it said to the first of them. */
export interface RestoreErrors {
  count: number
  samples: string[]
}

const MOST_SAMPLES = 20
/** A message can quote a whole statement. */
const LONGEST_MESSAGE = 2000

/** The messages of `pg_restore`: an error is told with the entry it is about, and with the statement in lines behind. */
export class RestoreMessages {
  readonly #onMessage: (text: string) => void
  readonly #errors: RestoreErrors = { count: 0, samples: [] }
  #entry: string | undefined
  #message: { isError: boolean; text: string } | undefined
  #ignored: number | undefined
  #lastError: string | undefined

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
    this.#entry = /^from TOC entry (.*)/.exec(said)?.[1] ?? this.#entry
    const [, level, text] = /^(error|warning): +(.*)/.exec(said) ?? []
    if (text === undefined) return
    const ignored = level === 'warning' ? /^errors ignored on restore: (\d+)/.exec(text)?.[1] : undefined
    if (ignored === undefined) this.#message = { isError: level === 'error', text }
    else this.#ignored = Number(ignored)
  }

  /** @returns how many errors the program says that it has passed over, if it says so; what was heard; the decisive one */
  finish(): { ignored: number | undefined; errors: RestoreErrors; lastError: string | undefined } {
    this.#tell()
    return { ignored: this.#ignored, errors: this.#errors, lastError: this.#lastError }
  }

  #tell(): void {
    if (!this.#message) return
    const { isError, text } = this.#message
    this.#message = undefined
    if (!isError) {
      this.#onMessage(reasonOf(text))
      return
    }
    const told = reasonOf(this.#entry === undefined ? text : `${text} (entry ${this.#entry})`)
    this.#entry = undefined
    this.#errors.count++
    if (this.#errors.samples.length < MOST_SAMPLES) this.#errors.samples.push(told)
    // What it says of its workers is a consequence.
    if (!/worker process/.test(text)) this.#lastError = text
    this.#onMessage(told)
  }
}

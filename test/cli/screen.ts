import { Writable } from 'node:stream'
import { stripVTControlCharacters } from 'node:util'

/** A terminal small enough to trust: rows of text, and the three sequences that `Terminal` may use. */
export class Screen extends Writable {
  readonly isTTY = true
  columns: number
  rows: string[] = ['']
  written = ''
  #row = 0

  constructor(columns = 80) {
    super({ decodeStrings: false })
    this.columns = columns
  }

  /** Makes the window narrower, wrapping rows as terminals do. */
  narrow(columns: number): void {
    this.columns = columns
    this.rows = this.rows.flatMap((row) => row.match(new RegExp(`.{1,${columns}}`, 'gu')) ?? [''])
    this.#row = this.rows.length - 1
  }

  override _write(chunk: string, _encoding: BufferEncoding, done: () => void): void {
    this.written += chunk
    for (const [token] of chunk.matchAll(/\x1b\[(\d*)([AJ])|\n|\r|(?:\x1b\[[\d;]*m|[^\x1b\r\n])+/g)) {
      if (token === '\n') {
        this.#row++
        this.rows.splice(this.#row, 1, '')
      } else if (token === '\r') {
      } else if (token.endsWith('A') && token.startsWith('\x1b')) {
        this.#row -= Number(token.slice(2, -1))
      } else if (token === '\x1b[J') {
        this.rows.length = this.#row + 1
        this.rows[this.#row] = ''
      } else {
        this.rows[this.#row] += stripVTControlCharacters(token)
      }
    }
    done()
  }
}

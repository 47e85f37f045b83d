import { stripVTControlCharacters, styleText } from 'node:util'

/** A style or a list of styles of `node:util` styleText, e.g. 'yellow' or ['bold', 'red']. */
export type Styles = Parameters<typeof styleText>[0]

/** A stream that may be a terminal, such as stderr. */
export type TerminalStream = NodeJS.WritableStream & { isTTY?: boolean; columns?: number }

export interface TerminalOptions {
  stream: TerminalStream
  /** Whether escape sequences for colour may be written. See `decideColor`. */
  color: boolean
  /** Whether a progress area may be drawn and redrawn: true only on a terminal that a person looks at. */
  interactive: boolean
}

/**
 * The one owner of an output stream: lines scroll by above, and a progress area of a few rows stays below
 * them. Methods may be called in any order. The cursor is never hidden, so a killed process leaves nothing to
 * repair. A reader that went away (EPIPE) silences the terminal; it does not stop the work.
 */
export class Terminal {
  readonly color: boolean
  readonly interactive: boolean
  readonly #stream: TerminalStream
  #status: string[] = []
  #closed = false
  #broken = false

  constructor(options: TerminalOptions) {
    this.color = options.color
    this.interactive = options.interactive
    this.#stream = options.stream
    this.#stream.on('error', () => {
      this.#broken = true
    })
  }

  /** The width in columns, 80 when the stream does not know it. */
  get columns(): number {
    return this.#stream.columns || 80
  }

  /**
   * Prints one line (or several, divided by newlines) above the progress area. Of the control characters in
   * `text` only newline, tab and, with colour, colour sequences reach the terminal; all others are shown escaped.
   */
  line(text: string): void {
    this.#write(
      `${this.#erasure()}${harmless(text.replace(/\n$/, ''), this.color)}\n${this.#status.join('\n')}`,
    )
  }

  /**
   * Replaces the progress area. Does nothing unless interactive.
   * @param lines one string a row; what is wider than the terminal is cut, because a wrapped row cannot be
   *   erased reliably
   */
  setStatus(lines: string[]): void {
    if (!this.interactive || this.#closed) return
    const rows = lines.map((line) => this.#row(line))
    if (rows.join('\n') === this.#status.join('\n')) return
    const erasure = this.#erasure()
    this.#status = rows
    this.#write(erasure + rows.join('\n'))
  }

  /** Takes the progress area away. */
  clearStatus(): void {
    this.setStatus([])
  }

  /** Takes the progress area away for good. Lines may still be printed. */
  close(): void {
    this.clearStatus()
    this.#closed = true
  }

  #row(line: string): string {
    const text = harmless(line.replaceAll('\n', ' '), this.color)
    // The last column stays free: writing into it makes some terminals wrap.
    const limit = this.columns - 1
    return displayWidth(text) <= limit ? text : cutToWidth(stripVTControlCharacters(text), limit)
  }

  #erasure(): string {
    if (this.#status.length === 0) return ''
    // A terminal made narrower since has wrapped the rows that no longer fit.
    const rows = this.#status.reduce(
      (sum, row) => sum + Math.max(1, Math.ceil(displayWidth(row) / this.columns)),
      0,
    )
    return `\r${rows > 1 ? `\x1b[${rows - 1}A` : ''}\x1b[J`
  }

  #write(text: string): void {
    if (!this.#broken) this.#stream.write(text)
  }
}

/**
 * Decides whether to write colour. NO_COLOR (https://no-color.org) forbids it; FORCE_COLOR asks for it, or
 * forbids it with 0; otherwise colour is for terminals that are not TERM=dumb.
 * @param env environment variables
 * @param stream where the text will go
 */
export function decideColor(env: Record<string, string | undefined>, stream: { isTTY?: boolean }): boolean {
  if (env.NO_COLOR) return false
  if (env.FORCE_COLOR) return !['0', 'false'].includes(env.FORCE_COLOR)
  return stream.isTTY === true && env.TERM !== 'dumb'
}

/** Whether the locale that environment variables name has more than ASCII. */
export function showsUnicode(env: Record<string, string | undefined>): boolean {
  return /utf-?8/i.test(env.LC_ALL || env.LC_CTYPE || env.LANG || '')
}

/**
 * @param text what to print
 * @param styles how it looks with colour
 * @param color false gives back `text` as it is
 */
export function paint(text: string, styles: Styles, color: boolean): string {
  // Without validateStream: false, styleText would look at the process's own stdout and environment.
  return color && text !== '' ? styleText(styles, text, { validateStream: false }) : text
}

/**
 * Makes control characters visible, so that a name chosen by someone else can neither drive the terminal nor
 * forge a line: ESC becomes '\x1b', a newline '\n'. Also escapes lone surrogates, and the bidirectional
 * controls that make text read differently from what it is.
 */
export function escapeControls(text: string): string {
  return text.replace(/[\p{Cc}\p{Cs}\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, (char) => {
    const short = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }[char]
    if (short !== undefined) return short
    const code = char.charCodeAt(0).toString(16)
    return code.length <= 2 ? `\\x${code.padStart(2, '0')}` : `\\u${code.padStart(4, '0')}`
  })
}

function harmless(text: string, color: boolean): string {
  const kept = color ? /(\x1b\[[\d;]*m|[\n\t])/ : /([\n\t])/
  return text
    .split(kept)
    .map((piece, index) => (index % 2 === 1 ? piece : escapeControls(piece)))
    .join('')
}

const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' })
const ZERO_WIDTH = /^[\p{Mark}\p{Format}\p{Control}]+$/u
const EMOJI = /^\p{Emoji_Presentation}|\ufe0f/u
// The Wide and Fullwidth blocks of https://www.unicode.org/reports/tr11/.
const WIDE =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{16fe0}-\u{18fff}\u{1b000}-\u{1b2ff}\u{20000}-\u{3fffd}]/u

/** How many columns `text` takes on a terminal; colour sequences and combining marks take none. */
export function displayWidth(text: string): number {
  const plain = stripVTControlCharacters(text)
  if (/^[\x20-\x7e]*$/.test(plain)) return plain.length
  let width = 0
  for (const { segment } of graphemes.segment(plain)) width += graphemeWidth(segment)
  return width
}

/** The longest beginning of `text` (without colour sequences) that takes no more than `width` columns. */
export function cutToWidth(text: string, width: number): string {
  let used = 0
  for (const { segment, index } of graphemes.segment(text)) {
    used += graphemeWidth(segment)
    if (used > width) return text.slice(0, index)
  }
  return text
}

function graphemeWidth(grapheme: string): number {
  if (ZERO_WIDTH.test(grapheme)) return 0
  return EMOJI.test(grapheme) || WIDE.test(grapheme) ? 2 : 1
}

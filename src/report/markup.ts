import { escapeControls } from '../cli/terminal.ts'

/** Text that is markup already; only `html` makes it, and what it is made of was escaped there. */
export class Markup {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/** What may stand in a template: names and numbers as text, other markup as it is, lists one after the other, and nothing. */
export type Piece = Markup | string | number | false | undefined | readonly Piece[]

/**
 * Makes HTML or SVG: whatever is put in becomes text, be it between tags or within a quoted attribute. Control characters
 * and those that turn the direction of writing are shown escaped, as on a terminal.
 * @see https://html.spec.whatwg.org/multipage/parsing.html#data-state
 */
export function html(strings: TemplateStringsArray, ...pieces: readonly Piece[]): Markup {
  return new Markup(strings.reduce((text, string, at) => text + textOf(pieces[at - 1]) + string))
}

function textOf(piece: Piece): string {
  if (piece instanceof Markup) return piece.text
  if (piece === undefined || piece === false) return ''
  if (typeof piece === 'object') return piece.map(textOf).join('')
  return escapeControls(String(piece)).replace(/[&<>"'`]/g, (char) => `&#${char.charCodeAt(0)};`)
}

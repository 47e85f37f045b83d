import { displayWidth, escapeControls } from './terminal.ts'

/**
 * Breaks a sentence at its blanks, to go into what an indentation leaves of the terminal's width. A word that is wider than that
 * stays whole.
 * @param indent what stands before each line, in columns
 * @param width of the terminal in columns; undefined where nobody looks at one, so that nothing is broken
 * @returns the lines without their indentation; one at least
 */
export function wrapped(text: string, indent: number, width: number | undefined): string[] {
  const room = (width ?? Number.POSITIVE_INFINITY) - indent
  const lines: string[] = []
  for (const [blanksAndWord, word] of escapeControls(text).matchAll(/ *([^ ]+)/g)) {
    const longer = `${lines.at(-1) ?? ''}${blanksAndWord}`
    if (lines.length === 0) lines.push(longer)
    else if (displayWidth(longer) <= room) lines[lines.length - 1] = longer
    else lines.push(word!)
  }
  return lines.length === 0 ? [''] : lines
}

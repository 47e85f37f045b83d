/** One command of a shell line: its words without quotes, and the operator behind it. */
export interface ShellCommand {
  words: string[]
  /** `&&`, `||`, `|`, `;` or `&`; undefined behind the last one. */
  next: string | undefined
}

const OPERATOR = /^(?:&&|\|\||[|;&\n])/
const REDIRECTION = /^\d*(?:>>|>&|>\||<>|<&|>|<)&?/
/** What only a shell can tell the value of. */
const EXPANSION = /^[$`()]/

/**
 * Takes a shell line apart, as far as that can be done without running it: quotes are removed, redirections and comments left out.
 * @returns undefined where it has variables, substitutions, subshells or a quote that does not end
 * @see https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html
 */
export function readShellLine(line: string): ShellCommand[] | undefined {
  const commands: ShellCommand[] = []
  let words: string[] = []
  let word: string | undefined
  let isTarget = false
  const endWord = () => {
    if (word !== undefined && !isTarget) words.push(word)
    if (word !== undefined) isTarget = false
    word = undefined
  }
  for (let at = 0; at < line.length; ) {
    const rest = line.slice(at)
    const redirection = word === undefined ? REDIRECTION.exec(rest)?.[0] : /^[<>]+&?/.exec(rest)?.[0]
    const operator = OPERATOR.exec(rest)?.[0]
    const quoted = /^'([^']*)'/.exec(rest) ?? /^"((?:[^"\\$`]|\\.)*)"/s.exec(rest)
    if (redirection) {
      endWord()
      isTarget = true
      at += redirection.length
    } else if (operator) {
      endWord()
      if (words.length > 0) commands.push({ words, next: operator === '\n' ? ';' : operator })
      words = []
      at += operator.length
    } else if (word === undefined && rest.startsWith('#')) {
      // A comment, up to the end of its line.
      at += /^[^\n]*/.exec(rest)![0].length
    } else if (/^\s/.test(rest)) {
      endWord()
      at++
    } else if (quoted) {
      const isDouble = rest.startsWith('"')
      word = (word ?? '') + (isDouble ? quoted[1]!.replaceAll(/\\(["\\$`])/g, '$1') : quoted[1]!)
      at += quoted[0].length
    } else if (EXPANSION.test(rest) || /^['"]/.test(rest)) {
      return undefined
    } else {
      const isEscaped = rest.startsWith('\\') && rest.length > 1
      word = (word ?? '') + rest[isEscaped ? 1 : 0]!
      at += isEscaped ? 2 : 1
    }
  }
  endWord()
  if (words.length > 0) commands.push({ words, next: undefined })
  return commands
}

import { quoteIdentifier } from '../postgres/server.ts'

/** New names of roles, by the old ones. */
export type RoleMap = ReadonlyMap<string, string>

type Kind = 'none' | 'string' | 'name' | 'word' | 'mark'
interface Token {
  kind: Kind
  text: string
}

/** As the scripts of `pg_dump` have them; a byte beyond ASCII is a letter. */
const TOKENS: [Kind, RegExp][] = [
  ['none', /\s+|--[^\n]*\n/y],
  ['string', /[eE]'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'/sy],
  ['string', /'[^']*(?:''[^']*)*'/y],
  ['name', /"[^"]*(?:""[^"]*)*"/y],
  ['string', /\$([A-Za-z_\x80-\xff][\w\x80-\xff]*)?\$.*?\$\1\$/sy],
  ['word', /[A-Za-z_\x80-\xff][\w$\x80-\xff]*/y],
  ['mark', /[^'"$-]|-(?=[^-])|\$(?=[^$A-Za-z_\x80-\xff])/y],
]
const END_OF_ROWS = '\\.\n'

/**
 * A script of `pg_restore` with other roles: who owns what, who has privileges, whom policies and user mappings are for.
 * Rows, the bodies of functions and all other strings stay as they are, also where they name a role.
 *
 * @param script in UTF-8, as far as the names of these roles go
 */
export async function* withRoles(script: AsyncIterable<Buffer>, roles: RoleMap): AsyncGenerator<Buffer> {
  // Bytes stay what they are in either direction.
  const asBytes = (name: string) => Buffer.from(name, 'utf8').toString('latin1')
  const map = new Map([...roles].map(([old, name]) => [asBytes(old), asBytes(name)]))
  let rest = ''
  let inRows = false
  for await (const piece of script) {
    rest += piece.toString('latin1')
    let done = ''
    for (;;) {
      const length = inRows ? rowsLength(rest) : statementLength(rest)
      if (length === undefined) break
      const text = rest.slice(0, length)
      done += inRows ? text : mapRoles(text, map)
      inRows = !inRows && beginsRows(text)
      rest = rest.slice(length)
    }
    if (inRows) {
      // Rows pass by as they come; the mark of their end may be cut.
      const end = rest.lastIndexOf('\n')
      if (end > 0) {
        done += rest.slice(0, end)
        rest = rest.slice(end)
      }
    }
    if (done !== '') yield Buffer.from(done, 'latin1')
  }
  if (rest !== '') yield Buffer.from(rest, 'latin1')
}

/** Between the two there are names, which may hold anything. */
function beginsRows(statement: string): boolean {
  if (!statement.endsWith(' FROM stdin;')) return false
  for (const { kind, text } of tokensOf(statement)) if (kind !== 'none') return text === 'COPY'
  return false
}

/** Of the rows in front, with the mark of their end; a line break is always before that. */
function rowsLength(text: string): number | undefined {
  const at = text.indexOf(`\n${END_OF_ROWS}`)
  return at < 0 ? undefined : at + 1 + END_OF_ROWS.length
}

/** Of the statement in front, or a line for psql; undefined while it is not all there. */
function statementLength(text: string): number | undefined {
  const meta = /^\s*\\[^\n]*\n/.exec(text)
  if (meta) return meta[0].length
  let at = 0
  for (const token of tokensOf(text)) {
    at += token.text.length
    if (token.text === ';') return at
  }
  return undefined
}

function* tokensOf(text: string): Generator<Token> {
  for (let at = 0; at < text.length; ) {
    const token = tokenAt(text, at)
    if (!token) return
    yield token
    at += token.text.length
  }
}

function tokenAt(text: string, at: number): Token | undefined {
  for (const [kind, pattern] of TOKENS) {
    pattern.lastIndex = at
    const found = pattern.exec(text)?.[0]
    if (found !== undefined) return { kind, text: found }
  }
  return undefined
}

/** One statement with other roles. Exported for tests, and for the statements about roles and tablespaces. */
export function mapRoles(statement: string, roles: RoleMap): string {
  const tokens = [...tokensOf(statement)]
  const said = tokens.filter(({ kind }) => kind !== 'none')
  for (const index of rolesIn(said)) {
    const token = said[index]!
    const role = roles.get(nameOf(token) ?? '')
    if (role !== undefined) token.text = quoteIdentifier(role)
  }
  return tokens.map(({ text }) => text).join('')
}

function nameOf({ kind, text }: Token): string | undefined {
  if (kind === 'name') return text.slice(1, -1).replaceAll('""', '"')
  return kind === 'word' ? text.toLowerCase() : undefined
}

/** Where a statement names roles. */
function rolesIn(tokens: Token[]): number[] {
  const words = tokens.map(({ kind, text }) => (kind === 'word' ? text.toUpperCase() : text))
  const behind = (...before: string[]) => {
    const at = words.findIndex((_, index) => before.every((word, step) => words[index + step] === word))
    return at < 0 ? [] : [at + before.length]
  }
  const listBehind = (at: number) => {
    const end = words.findIndex(
      (word, index) => index > at && ['WITH', 'GRANTED', 'USING', ';'].includes(word),
    )
    return at < 0 ? [] : words.map((_, index) => index).slice(at + 1, end < 0 ? undefined : end)
  }
  const granted = () => listBehind(Math.max(words.lastIndexOf('TO'), words.lastIndexOf('FROM')))
  switch (`${words[0]} ${words[1]}`) {
    case 'ALTER DEFAULT':
      return [...behind('FOR', 'ROLE'), ...granted()]
    case 'ALTER ROLE':
      // Its settings in one database.
      return words[3] === 'IN' ? [2] : []
    case 'SET SESSION':
      return behind('AUTHORIZATION')
    case 'CREATE POLICY':
      return listBehind(words.indexOf('TO'))
    case 'CREATE USER':
      return behind('MAPPING', 'FOR')
    case 'CREATE TABLESPACE':
      return behind('OWNER')
  }
  if (words[0] === 'GRANT' || words[0] === 'REVOKE') return [...granted(), ...behind('GRANTED', 'BY')]
  const owner = words.length - 2
  return words[0] === 'ALTER' && words[owner - 2] === 'OWNER' && words[owner - 1] === 'TO' ? [owner] : []
}

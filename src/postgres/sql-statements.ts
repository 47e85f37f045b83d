import { PgrecallError } from '../errors.ts'

export type StatementKind =
  | 'create-role'
  /** Attributes and password. */
  | 'alter-role'
  /** `ALTER ROLE ... SET`. */
  | 'configure-role'
  | 'drop-role'
  /** A comment or a security label. */
  | 'describe-role'
  /** Membership, granted or revoked: of the role, to the member, and by whom if that is said. */
  | 'grant-role'
  | 'create-tablespace'
  | 'alter-tablespace'
  | 'drop-tablespace'
  | 'describe-tablespace'
  /** A privilege, granted or revoked: on the tablespace, then to or from roles, and by whom if that is said. */
  | 'grant-tablespace'
  /** The same for a setting of the server, 15 and later. */
  | 'grant-parameter'
  /** A setting of the session, which those that follow rely on. */
  | 'set'
  /** A line for psql: `\connect`, `\restrict`. */
  | 'meta'
  | 'other'

export interface Statement {
  /** As it was written, without comments before it and with the semicolon. */
  sql: string
  kind: StatementKind
  /** What it is about, without quotes: the role, tablespace or setting first; see the kinds for what follows. */
  names: string[]
}

const WORD = '[A-Za-z_\\u0080-\\uffff][\\w\\u0080-\\uffff]*'
/** @see https://www.postgresql.org/docs/current/sql-syntax-lexical.html */
const TOKENS: [kind: 'none' | 'string' | 'name' | 'word' | 'mark', pattern: RegExp][] = [
  ['none', /\s+|--[^\n]*/y],
  ['string', /[eE]'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'/sy],
  ['string', /'[^']*(?:''[^']*)*'/y],
  ['name', /"[^"]*(?:""[^"]*)*"/y],
  ['string', new RegExp(`\\$(${WORD})?\\$.*?\\$\\1\\$`, 'sy')],
  ['word', new RegExp(`${WORD}(?:[\\w$.\\u0080-\\uffff]*)`, 'y')],
  ['mark', /[^'"]/y],
]
/** Where the session has standard_conforming_strings off. */
const ESCAPED_STRING = /'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'/sy
const META_LINE = /\\[^\n]*/y

interface Token {
  kind: 'string' | 'name' | 'word' | 'mark'
  text: string
}

/**
 * Splits a script of `pg_dumpall --globals-only` into its statements, and tells what they are about. Also other scripts
 * may be split that have no rows of `COPY` in them, no semicolons within a statement, and no comments in slashes and
 * asterisks.
 *
 * @throws PgrecallError `damaged` when the script ends in the middle of a statement
 */
export function splitStatements(script: string): Statement[] {
  const statements: Statement[] = []
  let tokens: Token[] = []
  let [at, start, standardStrings] = [0, 0, true]
  while (at < script.length) {
    const meta = tokens.length === 0 ? match(META_LINE, script, at) : undefined
    if (meta !== undefined) {
      statements.push({ sql: meta.trimEnd(), kind: 'meta', names: [] })
      at += meta.length
      continue
    }
    const [kind, text] = nextToken(script, at, standardStrings)
    if (kind !== 'none') {
      if (tokens.length === 0) start = at
      tokens.push({ kind, text })
    }
    at += text.length
    if (text !== ';') continue
    const sql = script.slice(start, at)
    const setting = /^SET standard_conforming_strings = '?(on|off)/i.exec(sql)?.[1]
    if (setting) standardStrings = setting.toLowerCase() === 'on'
    statements.push({ sql, ...subjectOf(tokens) })
    tokens = []
  }
  if (tokens.length > 0) throw endsEarly(script.slice(start))
  return statements
}

function nextToken(script: string, at: number, standardStrings: boolean): [Token['kind'] | 'none', string] {
  for (const [kind, pattern] of TOKENS) {
    const isPlain = pattern.source.startsWith("'")
    const text = match(isPlain && !standardStrings ? ESCAPED_STRING : pattern, script, at)
    if (text !== undefined) return [kind, text]
  }
  throw endsEarly(script.slice(at))
}

function match(pattern: RegExp, script: string, at: number): string | undefined {
  pattern.lastIndex = at
  return pattern.exec(script)?.[0]
}

const endsEarly = (rest: string) =>
  new PgrecallError('damaged', `the script ends in the middle of a statement: ${rest.slice(0, 40).trim()}`, {
    hint: 'run "pgrecall verify", and use another backup or another repository',
  })

function subjectOf(tokens: Token[]): Pick<Statement, 'kind' | 'names'> {
  const keyword = (index: number) => (tokens[index]?.kind === 'word' ? tokens[index].text.toUpperCase() : '')
  const [verb, object] = [keyword(0), keyword(1)]
  const named = (kind: StatementKind, index: number) => ({
    kind,
    names: namesIn(tokens.slice(index, index + 1)),
  })
  if (verb === 'SET' || (verb === 'SELECT' && tokens.some(({ text }) => text === 'pg_catalog.set_config'))) {
    return { kind: 'set', names: [] }
  }
  if (verb === 'GRANT' || verb === 'REVOKE') return grantOf(tokens)
  if (verb === 'COMMENT' || verb === 'SECURITY') {
    const on = tokens.findIndex((_, index) => keyword(index) === 'ON')
    if (keyword(on + 1) === 'ROLE') return named('describe-role', on + 2)
    if (keyword(on + 1) === 'TABLESPACE') return named('describe-tablespace', on + 2)
  }
  const name = keyword(2) === 'IF' && keyword(3) === 'EXISTS' ? 4 : 2
  if (object === 'ROLE') {
    if (verb === 'CREATE') return named('create-role', name)
    if (verb === 'DROP') return named('drop-role', name)
    if (verb === 'ALTER') {
      const configures = ['SET', 'RESET', 'IN'].includes(keyword(3))
      return named(configures ? 'configure-role' : 'alter-role', name)
    }
  }
  if (object === 'TABLESPACE') {
    if (verb === 'CREATE') return named('create-tablespace', name)
    if (verb === 'DROP') return named('drop-tablespace', name)
    if (verb === 'ALTER') return named('alter-tablespace', name)
  }
  return { kind: 'other', names: [] }
}

/** `GRANT a TO b WITH ... GRANTED BY c`, `GRANT ALL ON TABLESPACE t TO b, c`, and the same with `REVOKE ... FROM`. */
function grantOf(tokens: Token[]): Pick<Statement, 'kind' | 'names'> {
  const isKeyword =
    (...words: string[]) =>
    (token: Token) =>
      token.kind === 'word' && words.includes(token.text.toUpperCase())
  // These are names too, where they stand alone: a role can be called "granted".
  const to = tokens.findLastIndex(isKeyword('TO', 'FROM'))
  const end = tokens.findIndex((token, index) => index > to + 1 && isKeyword('WITH', 'GRANTED')(token))
  const by = tokens.findIndex(
    (token, index) => index > to + 2 && isKeyword('BY')(token) && isKeyword('GRANTED')(tokens[index - 1]!),
  )
  const roles = namesIn(tokens.slice(to + 1, end < 0 ? undefined : end))
  const grantor = by < 0 ? [] : namesIn(tokens.slice(by + 1))
  const on = tokens.findIndex(isKeyword('ON'))
  if (on < 0) {
    // REVOKE ADMIN OPTION FOR a
    const first = tokens.findIndex(isKeyword('FOR')) + 1 || 1
    return { kind: 'grant-role', names: [...namesIn(tokens.slice(first, to)), ...roles, ...grantor] }
  }
  const what = tokens[on + 1]?.text.toUpperCase()
  const kind = what === 'TABLESPACE' ? 'grant-tablespace' : what === 'PARAMETER' ? 'grant-parameter' : 'other'
  return { kind, names: kind === 'other' ? [] : [...namesIn(tokens.slice(on + 2, to)), ...roles, ...grantor] }
}

/** Names as the server knows them. */
const namesIn = (tokens: Token[]) =>
  tokens.flatMap(({ kind, text }) => {
    if (kind === 'name') return text.slice(1, -1).replaceAll('""', '"')
    return kind === 'word' ? text.toLowerCase() : []
  })

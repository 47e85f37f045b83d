import { type ErrorKind, PgrecallError, reasonOf } from '../errors.ts'
import { quoteIdentifier } from '../postgres/server.ts'

/** How far a restore has come with a database, and so in what state a failure leaves it. */
export type State =
  | 'untouched'
  /** It was not there, and is not. */
  | 'missing'
  /** It was told to go, and nothing is known since. */
  | 'dropping'
  /** As it was asked for, and nothing is in its place yet. */
  | 'dropped'
  /** By this run. */
  | 'made'
  /** It was there before, and has got something of the dump. */
  | 'begun'
  /** It has what is in the dump. */
  | 'loaded'

const WORDS: Record<State, string> = {
  untouched: 'is as it was',
  missing: 'is not made',
  dropping: 'was about to be dropped',
  dropped: 'was dropped, and is not made anew',
  made: 'is restored only in half',
  begun: 'is restored only in half',
  loaded: 'has what is in the dump, but lacks its settings or its statistics',
}

const stateText = (name: string, state: State) => `database "${name}" ${WORDS[state]}`

/** What has to be done about it; nothing that destroys what this run did not make. */
function mendOf(name: string, state: State): string | undefined {
  switch (state) {
    case 'dropping':
      return 'look whether it is there'
    case 'dropped':
      return 'restore it again'
    case 'made':
      return `DROP DATABASE ${quoteIdentifier(name)}, and restore again`
    case 'loaded':
      return 'look at its settings, and run ANALYZE in it'
    case 'begun':
      return 'look at what is in it now, or restore beside it with --into NAME'
    case 'untouched':
    case 'missing':
      return undefined
  }
}

/** What a signal has left, and what to do about it. */
export function leftText(name: string, state: State): string {
  const mend = mendOf(name, state)
  return mend === undefined ? stateText(name, state) : `${stateText(name, state)}: ${mend}`
}

/** A failure in a database, which says in what state that is. */
export function failureIn(name: string, state: State, error: unknown): PgrecallError {
  const kind = error instanceof PgrecallError ? error.kind : codeOf(error) in HINTS ? 'refused' : 'failed'
  const hints = [hintFor(error), mendOf(name, state)].filter((text) => text !== undefined)
  return new PgrecallError(
    state === 'untouched' || state === 'missing' ? kind : kindOnceChanged(kind),
    `${stateText(name, state)}: ${reasonOf(error)}`,
    { ...(hints.length > 0 && { hint: hints.join('; then ') }), cause: error },
  )
}

/** The same failure where something else had been changed before. */
export function onceChanged(error: unknown): unknown {
  if (!(error instanceof PgrecallError) || kindOnceChanged(error.kind) === error.kind) return error
  const { message, hint } = error
  return new PgrecallError('failed', message, { ...(hint !== undefined && { hint }), cause: error })
}

/** These kinds say that nothing was changed. */
const kindOnceChanged = (kind: ErrorKind): ErrorKind =>
  kind === 'refused' || kind === 'absent' || kind === 'usage' ? 'failed' : kind

/** Of what is restored all or nothing, something exists. */
const isInTheWay = (error: unknown) => error instanceof Error && / already exists/.test(error.message)

const codeOf = (error: unknown) => (error instanceof Error && 'code' in error ? String(error.code) : '')

/** What hinders a statement before it does anything, by the server's own code. @see https://www.postgresql.org/docs/current/errcodes-appendix.html */
const HINTS: Record<string, string> = {
  '42501': 'connect as a superuser, or as a role with CREATEDB; --no-owner leaves owners out',
  '55006': 'end the sessions in it (pg_terminate_backend), and restore again',
}

function hintFor(error: unknown): string | undefined {
  if (isInTheWay(error)) return 'restore beside it with --into NAME, and copy what is missing'
  if (error instanceof PgrecallError) return error.hint
  return HINTS[codeOf(error)]
}

/**
 * Everything that can go wrong, as kinds. A kind is what a caller may act on; its exit code is stable
 * from release to release, because cron jobs, monitors and PostgreSQL itself read it.
 */
export const EXIT_CODES = {
  absent: { code: 1, meaning: 'what was asked for is not there (for wal-fetch: no such WAL in the archive)' },
  usage: { code: 2, meaning: 'the command line is wrong' },
  config: { code: 3, meaning: 'the configuration is missing or wrong' },
  connection: { code: 4, meaning: 'the PostgreSQL server cannot be reached or does not let us in' },
  refused: { code: 5, meaning: 'a precondition does not hold; nothing was changed' },
  busy: { code: 6, meaning: 'another pgrecall holds the lock of this cluster' },
  repository: { code: 7, meaning: 'the repository cannot be reached, read or written' },
  conflict: {
    code: 8,
    meaning: 'different bytes are already stored under this name; nothing was overwritten',
  },
  damaged: { code: 9, meaning: 'stored or fetched bytes are not what they must be' },
  unreachable: { code: 10, meaning: 'the recovery target lies outside what is recoverable' },
  failed: {
    code: 11,
    meaning: 'the operation began and did not complete; what it left is invisible, and swept or gone on with',
  },
  problems: { code: 12, meaning: 'a check found problems' },
  pages: { code: 13, meaning: 'pages of the cluster do not fit their checksums' },
  key: { code: 14, meaning: 'no key was found that can read what is encrypted' },
  internal: { code: 70, meaning: 'a bug in pgrecall' },
  interrupted: { code: 130, meaning: 'stopped by a signal' },
  stopRecovery: {
    code: 200,
    meaning: 'wal-fetch during recovery could not get an answer: PostgreSQL must stop, not open early',
  },
} as const satisfies Record<string, { code: number; meaning: string }>

export type ErrorKind = keyof typeof EXIT_CODES

/** The one error class: a kind for programs, a sentence for people, a hint that says what to do next. */
export class PgrecallError extends Error {
  override readonly name = 'PgrecallError'
  readonly kind: ErrorKind
  readonly hint: string | undefined

  /**
   * @param kind decides the exit code
   * @param message one sentence: what happened, to which thing
   * @param options `hint` is the next step for the reader; `cause` is kept for debug logs
   */
  constructor(kind: ErrorKind, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.kind = kind
    this.hint = options.hint
  }
}

/** The exit code of anything thrown: the table's for our own errors, 70 for a bug. */
export function exitCodeOf(error: unknown): number {
  return EXIT_CODES[error instanceof PgrecallError ? error.kind : 'internal'].code
}

/** The code of a failed system call (`ENOENT`, `ENOSPC`...), or undefined for any other error. */
export function systemCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

/** What an error says, in one line, for use inside another sentence. */
export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  return (text || (error instanceof AggregateError ? reasonOf(error.errors[0]) : 'unknown error'))
    .replace(/\s+/g, ' ')
    .trim()
}

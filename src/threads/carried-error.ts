import { type ErrorKind, PgrecallError } from '../errors.ts'

/** An error on its way from a worker to the main thread: a message copies an error's text, not its class. */
export interface Carried {
  kind: ErrorKind | undefined
  message: string
  hint: string | undefined
  stack: string | undefined
}

export function carry(error: unknown): Carried {
  const known = error instanceof PgrecallError ? error : undefined
  const { message, stack } = error instanceof Error ? error : new Error(String(error))
  return { kind: known?.kind, message, hint: known?.hint, stack }
}

export function unwrap(carried: Carried): Error {
  if (carried.kind) {
    return new PgrecallError(
      carried.kind,
      carried.message,
      carried.hint === undefined ? {} : { hint: carried.hint },
    )
  }
  const error = new Error(carried.message)
  if (carried.stack) error.stack = carried.stack
  return error
}

import { type ErrorKind, PgrecallError, systemCode } from '../errors.ts'

/** An error on its way from a worker to the main thread: a message copies an error's text, not its class. */
export interface Carried {
  kind: ErrorKind | undefined
  message: string
  hint: string | undefined
  stack: string | undefined
  /** Of the system call that it came of: a disk that is full is told from other failures by it. */
  causeCode: string | undefined
}

export function carry(error: unknown): Carried {
  const known = error instanceof PgrecallError ? error : undefined
  const { message, stack } = error instanceof Error ? error : new Error(String(error))
  return { kind: known?.kind, message, hint: known?.hint, stack, causeCode: systemCode(known?.cause) }
}

export function unwrap(carried: Carried): Error {
  if (carried.kind) {
    const { kind, message, hint, causeCode } = carried
    const cause = causeCode && Object.assign(new Error(causeCode), { code: causeCode })
    return new PgrecallError(kind, message, {
      ...(hint !== undefined && { hint }),
      ...(cause && { cause }),
    })
  }
  const error = new Error(carried.message)
  if (carried.stack) error.stack = carried.stack
  return error
}

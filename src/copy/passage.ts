import type { Repository } from '../catalog/repository.ts'
import { PgrecallError } from '../errors.ts'

/** From where to where objects are copied, and what all of them need. */
export interface Passage {
  from: Repository
  to: Repository
  cluster: string
  /** zstd's, for WAL that is stored in another form than it had. */
  level: number
  /** How many objects are under way at once. */
  jobs: number
  signal: AbortSignal
  /** Hears of stored bytes as they are read. */
  onBytes: (bytes: number) => void
}

/** A damaged thing spoils one backup or one segment; the rest can still be copied. */
export function spoilsOneThing(error: unknown): error is PgrecallError {
  return error instanceof PgrecallError && (error.kind === 'damaged' || error.kind === 'failed')
}

/** What was listed and is not there when it is read. */
export function goneMeanwhile({ from }: Passage, key: string): PgrecallError {
  return new PgrecallError('failed', `${from.storage.location}/${key} went away while it was being copied`, {
    hint: 'retention may have removed it: run the same command again',
  })
}

/** Says of which object it is that it cannot be read, where the error does not yet. */
export function namingTheObject(error: unknown, { from }: Passage, key: string): unknown {
  const isUnnamed =
    error instanceof PgrecallError &&
    (error.kind === 'damaged' || error.kind === 'key') &&
    !error.message.includes(key)
  if (!isUnnamed) return error
  return new PgrecallError(error.kind, `${from.storage.location}/${key} cannot be read: ${error.message}`, {
    ...(error.hint && { hint: error.hint }),
    cause: error,
  })
}

export function damagedObject({ from }: Passage, key: string, what: string): PgrecallError {
  return new PgrecallError('damaged', `${from.storage.location}/${key} ${what}; it was not copied`, {
    hint: 'other backups and segments are not affected; take another copy of it where there is one',
  })
}

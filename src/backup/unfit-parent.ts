import { PgrecallError } from '../errors.ts'

/** A backup that was begun cannot build upon its parent, which only came out then. A full one can be taken instead. */
export class UnfitParent extends PgrecallError {
  /** As a part of a sentence. */
  readonly reason: string

  constructor(reason: string) {
    super('failed', `the incremental backup could not be trusted, and was given up: ${reason}`, {
      hint: 'take the backup again, or a whole one with --type full',
    })
    this.reason = reason
  }
}

import { PgrecallError } from '../errors.ts'
import type { Database } from '../postgres/server.ts'

/**
 * A database that goes to another tablespace while a base backup is taken is lost with it: the replay of the move copies the
 * files from the old folder anew, which the backup may not have caught, over those that it has. That holds for every
 * base backup, whoever takes it.
 * @param before all databases when the backup had begun @param after all when it was over
 * @param renewed the oids of those whose folder was made meanwhile, where that can be seen: there and back is a move too
 * @returns the latter as they are recorded
 * @throws PgrecallError `failed`
 * @see dbase_redo in src/backend/commands/dbcommands.c
 */
export function requireUnmoved(
  before: readonly Database[],
  after: readonly Database[],
  renewed: ReadonlySet<number> = new Set(),
): { oid: string; name: string }[] {
  const places = new Map(before.map(({ oid, tablespace }) => [oid, tablespace]))
  const moved = after.find(
    ({ oid, tablespace }) => places.has(oid) && (places.get(oid) !== tablespace || renewed.has(Number(oid))),
  )
  if (!moved) return after.map(({ oid, name }) => ({ oid, name }))
  throw new PgrecallError(
    'failed',
    `the database "${moved.name}" was moved to another tablespace during the backup, which voids it`,
    { hint: 'take the backup again, while no database is moved' },
  )
}

import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { type DumpableDatabase, dumpableDatabases } from '../postgres/dumpable.ts'
import { inDatabase } from '../postgres/in-database.ts'
import type { Server } from '../postgres/server.ts'
import type { LogicalRun } from './logical-run.ts'

/** A database as it is called now, and a session in it: as long as somebody is connected to it, it keeps its name. */
export interface ConnectedDatabase {
  session: Server
  database: DumpableDatabase
}

/**
 * Connects to a database of the plan, when its turn has come. Meanwhile it can have been renamed, then it is found by its oid; or
 * dropped and made anew, then by its name.
 * @returns undefined when it is not there any more
 * @throws PgrecallError `connection`, also where it is there and whoever answers leads somewhere else; `failed` where it was
 *   renamed and another one has its name
 */
export async function connectToDatabase(
  run: LogicalRun,
  planned: DumpableDatabase,
): Promise<ConnectedDatabase | undefined> {
  let database = planned
  for (;;) {
    const found = await connectIfThere(run, database)
    if ('session' in found) return { session: found.session, database }
    const present = await presentDatabase(run, planned)
    if (!present) return undefined
    if (present.oid === database.oid && present.name === database.name)
      throw elsewhere(database, found.reason)
    database = present
  }
}

/** @returns a session in this very database, or why there is none */
async function connectIfThere(
  { source }: LogicalRun,
  { oid, name }: DumpableDatabase,
): Promise<{ session: Server } | { reason: unknown }> {
  await using opened = new AsyncDisposableStack()
  let session: Server
  try {
    session = opened.use(await source.connect(inDatabase(source.connection, name)))
  } catch (error) {
    if (systemCode((error as Error).cause) === INVALID_CATALOG_NAME) return { reason: error }
    throw error
  }
  const found = await session.one<{ oid: string }>(
    'SELECT oid::text AS oid FROM pg_database WHERE datname = current_database()',
  )
  if (found.oid !== oid) return { reason: new Error('the session is in another database') }
  opened.move()
  return { session }
}

/** @see https://www.postgresql.org/docs/current/errcodes-appendix.html */
const INVALID_CATALOG_NAME = '3D000'

/** By another connection than one to itself. Under its name there may be another one of the plan by now. */
async function presentDatabase(
  { source, plan }: LogicalRun,
  { oid, name }: DumpableDatabase,
): Promise<DumpableDatabase | undefined> {
  await using server = await source.connect(source.connection)
  const all = await dumpableDatabases(server, plan.server.majorVersion)
  const isPlanned = (database: DumpableDatabase) => plan.databases.some((each) => each.oid === database.oid)
  const same = all.find((database) => database.oid === oid)
  const namesake = all.find((database) => database.name === name && !isPlanned(database))
  if (same && namesake)
    throw new PgrecallError(
      'failed',
      `database "${name}" was renamed to "${same.name}", and another one has its name`,
      { hint: 'run this again' },
    )
  return same ?? namesake
}

function elsewhere({ name }: DumpableDatabase, reason: unknown): PgrecallError {
  return new PgrecallError(
    'connection',
    `database "${name}" is there, and cannot be reached: ${reasonOf(reason)}`,
    {
      hint: 'connect to the server itself, and not to a pooler that does not lead to all databases',
      cause: reason,
    },
  )
}

import { PgrecallError } from '../errors.ts'
import { inDatabase } from '../postgres/in-database.ts'
import type { Server } from '../postgres/server.ts'
import type { LogicalSource } from './logical-run.ts'

/** A database that is there already. */
export interface TargetDatabase {
  name: string
  encoding: string
  /** Whether it holds anything that somebody made. */
  hasData: boolean
  schemas: string[]
}

/** The server that is restored into, as far as a restore has to know it. */
export interface RestoreTarget {
  majorVersion: number
  versionText: string
  roles: string[]
  tablespaces: string[]
  databases: TargetDatabase[]
}

/** What initdb and extensions did not make: relations, large objects. */
const HAS_DATA = `
  SELECT EXISTS (
    SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
     WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND nspname <> 'information_schema' AND nspname !~ '^pg_'
       AND NOT EXISTS (SELECT FROM pg_depend
                        WHERE classid = 'pg_class'::regclass AND objid = c.oid AND deptype = 'e')
  ) OR EXISTS (SELECT FROM pg_largeobject_metadata) AS "hasData",
  ARRAY(SELECT nspname::text FROM pg_namespace) AS schemas`

/**
 * Looks at what is there; changes nothing.
 * @param server in any database
 * @param isAskedFor which databases matter; others are not connected to
 * @throws PgrecallError `refused` for a standby, `connection`
 */
export async function lookAtTarget(
  server: Server,
  source: LogicalSource,
  isAskedFor: (name: string) => boolean,
): Promise<RestoreTarget> {
  const facts = await server.one<{ version: number; text: string; recovering: boolean }>(
    `SELECT current_setting('server_version_num')::int AS version, current_setting('server_version') AS text,
            pg_is_in_recovery() AS recovering`,
  )
  if (facts.recovering)
    throw new PgrecallError('refused', 'the server is a standby, into which nothing can be restored', {
      hint: 'name its primary, or another server, with --host and --port',
    })
  const names = async (query: string) => (await server.query<{ name: string }>(query)).map(({ name }) => name)
  const all = await server.query<{ name: string; encoding: string }>(
    `SELECT datname AS name, pg_encoding_to_char(encoding) AS encoding FROM pg_database
      WHERE datallowconn ORDER BY datname`,
  )
  const databases: TargetDatabase[] = []
  for (const database of all.filter(({ name }) => isAskedFor(name))) {
    await using session = await source.connect(inDatabase(source.connection, database.name))
    const inside = await session.one<Pick<TargetDatabase, 'hasData' | 'schemas'>>(HAS_DATA)
    databases.push({ ...database, ...inside })
  }
  return {
    majorVersion: Math.floor(facts.version / 10_000),
    versionText: facts.text,
    roles: await names('SELECT rolname AS name FROM pg_roles ORDER BY rolname'),
    tablespaces: await names('SELECT spcname AS name FROM pg_tablespace ORDER BY spcname'),
    databases,
  }
}

import { PgrecallError } from '../errors.ts'
import { inDatabase } from '../postgres/in-database.ts'
import type { Server } from '../postgres/server.ts'
import type { LogicalSource } from './logical-run.ts'

/** A database that is there already. */
export interface TargetDatabase {
  name: string
  encoding: string
  /** Whether anybody may connect; what is in one that is closed nobody knows. */
  allowsConnections: boolean
  /** Whether it holds anything that somebody made, or may do so. */
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

/** What initdb and extensions did not make, nor comes along with something else: as a table's row type does. */
const hasOwn = (catalog: string, namespace: string, which = 'true') => `EXISTS (
    SELECT FROM ${catalog} c JOIN pg_namespace n ON n.oid = ${namespace}
     WHERE ${which} AND nspname <> 'information_schema' AND nspname !~ '^pg_'
       AND NOT EXISTS (SELECT FROM pg_depend
                        WHERE classid = '${catalog}'::regclass AND objid = c.oid AND deptype IN ('e', 'i')))`
const HAS_DATA = `
  SELECT ${hasOwn('pg_class', 'relnamespace', `relkind IN ('r', 'p', 'v', 'm', 'f', 'S')`)}
      OR ${hasOwn('pg_proc', 'pronamespace')} OR ${hasOwn('pg_type', 'typnamespace')}
      OR EXISTS (SELECT FROM pg_namespace n
                  WHERE nspname NOT IN ('public', 'information_schema') AND nspname !~ '^pg_'
                    AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_namespace'::regclass
                                       AND objid = n.oid AND deptype = 'e'))
      OR EXISTS (SELECT FROM pg_largeobject_metadata) AS "hasData",
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
  const all = await server.query<Pick<TargetDatabase, 'name' | 'encoding' | 'allowsConnections'>>(
    `SELECT datname AS name, pg_encoding_to_char(encoding) AS encoding, datallowconn AS "allowsConnections"
       FROM pg_database ORDER BY datname`,
  )
  const databases: TargetDatabase[] = []
  for (const database of all.filter(({ name }) => isAskedFor(name))) {
    if (!database.allowsConnections) {
      databases.push({ ...database, hasData: true, schemas: [] })
      continue
    }
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

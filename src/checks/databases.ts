import { formatBytes, formatCount } from '../cli/units.ts'
import { dumpableDatabases } from '../postgres/dumpable.ts'
import { inDatabase } from '../postgres/in-database.ts'
import { type ConnectionOptions, Server } from '../postgres/server.ts'
import { type Finding, fail, pass, warn } from './finding.ts'

/** What stands in a database that comes back otherwise than it was. */
export interface DatabaseFacts {
  database: string
  unlogged: { name: string; bytes: number }[]
  /** How many unlogged tables there are in all, and what they took up when they were analyzed last. */
  unloggedCount: number
  unloggedBytes: number
  /** Tables that this role may not dump, or of which row security shows it a part. */
  undumpable: { name: string; schema: string; count: number } | undefined
}

/** So many are named. */
const NAMED = 3

/** Looks into every database that can be connected to, one after the other. */
export async function askDatabases(
  server: Server,
  connection: ConnectionOptions,
  signal: AbortSignal,
): Promise<{ databases: DatabaseFacts[]; closed: string[]; forbidden: string[] }> {
  const { major } = await server.one<{ major: number }>(
    `SELECT current_setting('server_version_num')::int / 10000 AS major`,
  )
  const databases: DatabaseFacts[] = []
  const all = (await dumpableDatabases(server, major)).filter(({ isInvalid }) => !isInvalid)
  const closed: string[] = []
  for (const { name } of all.filter((one) => one.allowsConnections && one.mayConnect)) {
    signal.throwIfAborted()
    try {
      await using inside = await Server.connect(inDatabase(connection, name))
      databases.push(await askDatabase(inside, name))
    } catch {
      // pg_hba.conf may keep us out of one; a server that is gone, or stuck, is another thing.
      await server.query('SELECT 1')
      closed.push(name)
    }
  }
  const forbidden = all.filter((one) => one.allowsConnections && !one.mayConnect).map(({ name }) => name)
  return { databases, closed, forbidden }
}

async function askDatabase(server: Server, database: string): Promise<DatabaseFacts> {
  const unlogged = await server.query<{ name: string; bytes: string; count: number; all: string }>(
    `SELECT format('%I.%I', nspname, relname) AS name, bytes::text, count(*) OVER ()::int AS count,
            (sum(bytes) OVER ())::text AS all
       FROM (SELECT nspname, relname, relpages::bigint * current_setting('block_size')::bigint AS bytes
               FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
              WHERE relpersistence = 'u' AND relkind = 'r') AS unlogged
      ORDER BY unlogged.bytes DESC, name LIMIT ${NAMED}`,
  )
  const undumpable = await server.one<{ name: string | null; schema: string; count: number }>(
    `SELECT (array_agg(format('%I.%I', nspname, relname) ORDER BY nspname, relname))[1] AS name,
            (array_agg(quote_ident(nspname) ORDER BY nspname, relname))[1] AS schema, count(*)::int AS count
       FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
       JOIN pg_roles AS r ON rolname = current_user
      WHERE relkind IN ('r', 'p', 'S') AND relpersistence <> 't' AND nspname <> 'information_schema'
            AND nspname !~ '^pg_' AND NOT rolsuper
            AND (NOT CASE relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
                                  ELSE has_table_privilege(c.oid, 'SELECT') END
                 OR NOT has_schema_privilege(n.oid, 'USAGE')
                 OR relrowsecurity AND NOT rolbypassrls AND (relforcerowsecurity OR NOT pg_has_role(relowner, 'USAGE')))`,
  )
  return {
    database,
    unlogged: unlogged.map(({ name, bytes }) => ({ name, bytes: Number(bytes) })),
    unloggedCount: unlogged[0]?.count ?? 0,
    unloggedBytes: Number(unlogged[0]?.all ?? 0),
    undumpable: undumpable.name === null ? undefined : { ...undumpable, name: undumpable.name },
  }
}

/** What no physical backup has: a restored server makes these tables anew, empty. */
export function judgeUnlogged(databases: readonly DatabaseFacts[], closed: readonly string[]): Finding[] {
  const found = databases
    .filter(({ unloggedCount }) => unloggedCount > 0)
    .map(({ database, unlogged, unloggedCount, unloggedBytes }) => {
      const named = unlogged.map(({ name }) => name).join(', ')
      const size = unloggedBytes > 0 ? ` (about ${formatBytes(unloggedBytes)})` : ''
      const more = unloggedCount > unlogged.length ? ` and ${unloggedCount - unlogged.length} more` : ''
      return warn(
        'unlogged tables',
        `${formatCount(unloggedCount, 'unlogged table')} in "${database}"${size} ${unloggedCount === 1 ? 'comes' : 'come'} back empty: ${named}${more}`,
        `what must not be lost, in "${database}": ALTER TABLE ${unlogged[0]!.name} SET LOGGED;`,
      )
    })
  const unseen = closed.map((name) =>
    warn(
      'unlogged tables',
      `database "${name}" could not be looked into`,
      'let the role in through pg_hba.conf',
    ),
  )
  return [
    ...(found.length === 0 && databases.length > 0 ? [pass('unlogged tables', 'no table is unlogged')] : []),
    ...found,
    ...unseen,
  ]
}

/** What would make a logical backup fail. */
export function judgeDumpRights(
  databases: readonly DatabaseFacts[],
  forbidden: readonly string[],
  { role, version }: { role: string; version: number },
): Finding[] {
  const findings = [
    ...forbidden.map((name) =>
      fail(
        'dumps',
        `the role ${role} may not connect to database "${name}", so no dump of it can be taken`,
        `as a superuser: GRANT CONNECT ON DATABASE "${name}" TO ${role};`,
      ),
    ),
    ...databases.flatMap(({ database, undumpable }) =>
      undumpable
        ? fail(
            'dumps',
            `the role ${role} may not read all rows of ${formatCount(undumpable.count, 'relation')} in "${database}", such as ${undumpable.name}, so a dump of it fails`,
            `as a superuser, in "${database}": ${grantsToRead(undumpable.schema, role, version)}`,
          )
        : [],
    ),
  ]
  return findings.length > 0 ? findings : [pass('dumps', 'the role may dump all databases')]
}

/** Before 14 there is no role that reads everything. */
function grantsToRead(schema: string, role: string, version: number): string {
  const grants =
    version >= 140_000
      ? [`GRANT pg_read_all_data TO ${role};`]
      : [
          `GRANT USAGE ON SCHEMA ${schema} TO ${role};`,
          `GRANT SELECT ON ALL TABLES IN SCHEMA ${schema} TO ${role};`,
          `GRANT SELECT ON ALL SEQUENCES IN SCHEMA ${schema} TO ${role};`,
        ]
  return [...grants, `ALTER ROLE ${role} BYPASSRLS;`].join(' ')
}

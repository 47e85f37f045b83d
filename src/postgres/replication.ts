import { isIP, Socket } from 'node:net'
import pg from 'pg'
import { PgrecallError, reasonOf } from '../errors.ts'
import { type Lsn, lsn } from './lsn.ts'
import { patiently } from './patience.ts'
import { type ConnectionOptions, quoteIdentifier } from './server.ts'
import { parseHistory, type TimelineHistory } from './timeline-history.ts'

const UNDEFINED_FILE = '58P01'

/**
 * Opens a session in which the server takes replication commands instead of SQL. Whoever gets it ends it.
 * @param socket for whoever may want to give it up
 * @throws PgrecallError `connection`, with the line for pg_hba.conf or the statement that lets the role in
 * @see https://www.postgresql.org/docs/current/protocol-replication.html
 */
export async function connectReplication(
  options: ConnectionOptions,
  socket: Socket = new Socket(),
): Promise<pg.Client> {
  const { uri, patience, ...rest } = options
  // The driver passes this on to the server; its type definitions do not have it.
  const physical = { replication: 'true' }
  const client = new pg.Client({
    ...(uri ? { connectionString: uri } : rest),
    ...physical,
    stream: () => socket,
    application_name: 'pgrecall',
    connectionTimeoutMillis: 15_000,
    keepAlive: true,
  })
  // What breaks later is told by the command that runs then.
  client.on('error', () => {})
  try {
    await patiently(client.connect(), socket, patience)
  } catch (error) {
    await client.end().catch(() => {})
    throw replicationError(error, client)
  }
  return client
}

/**
 * Asks for a replication session and gives it back at once, so that what is missing on the server is told before
 * anything begins, and by error codes, whatever language the server speaks.
 * @throws PgrecallError `connection`, as `connectReplication`
 */
export async function identifySystem(
  options: ConnectionOptions,
): Promise<{ systemIdentifier: string; timeline: number; position: Lsn }> {
  const { patience } = options
  const socket = new Socket()
  const client = await connectReplication(options, socket)
  try {
    const [row] = (await patiently(client.query('IDENTIFY_SYSTEM'), socket, patience)).rows
    return { systemIdentifier: row.systemid, timeline: Number(row.timeline), position: lsn(row.xlogpos) }
  } catch (error) {
    throw replicationError(error, client)
  } finally {
    // Waits for the end of the server's process, which gives its WAL sender back: there may be only one.
    await patiently(client.end(), socket, patience).catch(() => {})
  }
}

/**
 * Where a server is, and how it came to its timeline. A standby is where its replay is.
 * @returns `history` is undefined when the server does not have it any more
 * @throws PgrecallError `connection`, as `connectReplication`; `damaged` when the history cannot be read
 */
export async function readPlace(
  options: ConnectionOptions,
): Promise<{ timeline: number; position: Lsn; history: TimelineHistory | undefined }> {
  const client = await connectReplication(options)
  try {
    const [row] = (await client.query('IDENTIFY_SYSTEM')).rows
    const timeline = Number(row.timeline)
    const text = timeline === 1 ? '' : await historyOf(client, timeline)
    const history = text === undefined ? undefined : parseHistory(text, timeline)
    return { timeline, position: lsn(row.xlogpos), history }
  } finally {
    await client.end().catch(() => {})
  }
}

async function historyOf(client: pg.Client, timeline: number): Promise<string | undefined> {
  try {
    const [row] = (await client.query(`TIMELINE_HISTORY ${timeline}`)).rows
    // Its type is bytes in some versions, although it is not written as such.
    return row.content.toString()
  } catch (error) {
    if (error instanceof pg.DatabaseError && error.code === UNDEFINED_FILE) return undefined
    throw error
  }
}

function replicationError(error: unknown, { user = '', host }: pg.Client): PgrecallError {
  if (error instanceof PgrecallError) return error
  const code = error instanceof pg.DatabaseError ? error.code : undefined
  return new PgrecallError(
    'connection',
    `the server does not let "${user}" take a base backup: ${reasonOf(error)}`,
    { hint: replicationHint(reasonOf(error), user, host, code), cause: error },
  )
}

/**
 * What to do when a server refuses a replication session.
 * @param text the server's words: in any language, but names and addresses in it are not translated
 * @param code its SQLSTATE, where that is known
 */
export function replicationHint(text: string, user: string, host: string, code?: string): string {
  if (text.includes('pg_hba.conf')) {
    return `add to pg_hba.conf, above what else may match: "${hbaLine(text, user, host)}"; then reload the server ("all" as the database does not cover replication)`
  }
  if (code === '28P01' || /password authentication failed|no password supplied|password must be/.test(text)) {
    return 'set PGPASSWORD, or add a line with "*" or "replication" as the database to ~/.pgpass (mode 0600)'
  }
  if (code === '42501' || /replication role|WAL sender process/.test(text)) {
    return `as a superuser: ALTER ROLE ${quoteIdentifier(user)} REPLICATION`
  }
  if (text.includes('max_wal_senders')) {
    return 'raise max_wal_senders (and restart the server), or end what uses it; see pg_stat_replication'
  }
  return 'replication needs a connection to the server itself; a pooler such as PgBouncer passes none on'
}

/** The line that lets a role in for replication, from where the server saw it come. */
function hbaLine(text: string, user: string, host: string): string {
  const role = quoteHba(user)
  if (text.includes('[local]') || host.startsWith('/')) return `local replication ${role} peer`
  // The client may have put the server's address in front.
  const address = text.split(/[^0-9A-Fa-f:.]+/).findLast((word) => isIP(word) !== 0)
  const range = address === undefined ? 'samenet' : `${address}/${isIP(address) === 6 ? 128 : 32}`
  return `host replication ${role} ${range} scram-sha-256`
}

/** Names that a line of pg_hba.conf would read as something else are quoted. */
function quoteHba(user: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(user) && user !== 'all' ? user : `"${user.replaceAll('"', '""')}"`
}

import { Socket } from 'node:net'
import pg from 'pg'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { type Patience, patiently, statementTimeout } from './patience.ts'

/** How to reach a server; what is left out comes from libpq's `PG*` variables, `~/.pgpass` and its defaults. */
export interface ConnectionOptions {
  uri?: string
  host?: string
  port?: number
  user?: string
  database?: string
  password?: string
  /** Of who only looks; left out where an answer may take its time, as the checkpoint before a backup. */
  patience?: Patience
}

/** What a backup records of its cluster. */
export interface ClusterFacts {
  /** `150018` for 15.18. */
  version: number
  majorVersion: number
  versionText: string
  systemIdentifier: string
  /** Part of the name of the server's folder in a tablespace: `PG_15_202209061`. */
  catalogVersion: number
  dataDirectory: string
  walSegmentBytes: number
  blockBytes: number
  /** Blocks of a relation in one file; the next ones are in `<name>.1`. */
  relationSegmentBlocks: number
  dataChecksums: boolean
  /** Configuration files that lie outside the data directory and are not part of a copy of it. */
  outsideFiles: string[]
  tablespaces: { oid: string; name: string; location: string }[]
}

export interface Database {
  oid: string
  name: string
  /** The oid of its default tablespace, where its own folder lies. */
  tablespace: string
}

export interface ServerFacts extends ClusterFacts {
  inRecovery: boolean
  walLevel: string
  archiveMode: string
  archiveCommand: string
  archiveLibrary: string
}

/** A connection to a running server. Close it, or hold it with `await using`. */
export class Server implements AsyncDisposable {
  readonly #client: pg.Client
  readonly #socket: Socket
  readonly #patience: Patience | undefined
  readonly #lost = new AbortController()
  #closing = false

  private constructor(client: pg.Client, socket: Socket, patience: Patience | undefined) {
    this.#client = client
    this.#socket = socket
    this.#patience = patience
    const lose = (cause?: unknown) => {
      if (this.#closing || this.#lost.signal.aborted) return
      this.#lost.abort(sessionLost(cause ?? new Error('the server closed it')))
    }
    client.on('error', lose)
    client.on('end', () => lose())
  }

  /** @throws PgrecallError `connection`, with the reason and what to do about it */
  static async connect(options: ConnectionOptions): Promise<Server> {
    const { uri, patience, ...rest } = options
    const socket = new Socket()
    const client = new pg.Client({
      ...(uri ? { connectionString: uri } : rest),
      stream: () => socket,
      application_name: 'pgrecall',
      connectionTimeoutMillis: 15_000,
      keepAlive: true,
      // Of itself a session says nothing for hours while files are copied, and firewalls forget it.
      keepAliveInitialDelayMillis: 60_000,
    })
    const where = uri ? 'the server' : `the server at ${client.host}, port ${client.port}`
    // What breaks before there is a session is told by what waits then.
    client.on('error', () => {})
    try {
      await patiently(client.connect(), socket, patience)
      // First of all: in a database whose owner chose the path, a function of his could be called in place of PostgreSQL's.
      const first = client.query(
        `SET search_path = ''; SET statement_timeout = ${statementTimeout(patience)}; SET lock_timeout = 0; SET datestyle = ISO`,
      )
      await patiently(first, socket, patience)
      const second = client.query(
        `SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('idle_session_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')`,
      )
      await patiently(second, socket, patience)
    } catch (error) {
      await patiently(client.end(), socket, patience).catch(() => {})
      if (error instanceof PgrecallError) throw error
      throw new PgrecallError(
        'connection',
        `cannot connect to ${where} as "${client.user}": ${reasonOf(error)}`,
        {
          hint: connectionHint(error),
          cause: error,
        },
      )
    }
    return new Server(client, socket, patience)
  }

  /** Aborts with a PgrecallError when the connection is lost. */
  get lost(): AbortSignal {
    return this.#lost.signal
  }

  /** Runs one statement; identifiers must be quoted by the caller, values go into `values`. */
  async query<Row extends object>(text: string, values: unknown[] = []): Promise<Row[]> {
    try {
      const answer = this.#client.query<Row & pg.QueryResultRow>(text, values)
      return (await patiently(answer, this.#socket, this.#patience)).rows
    } catch (error) {
      this.#lost.signal.throwIfAborted()
      // FATAL is the server's last word in a session, and is here before the session's end is.
      if (error instanceof pg.DatabaseError && error.severity === 'FATAL') throw sessionLost(error)
      throw error
    }
  }

  async one<Row extends object>(text: string, values: unknown[] = []): Promise<Row> {
    const row = (await this.query<Row>(text, values))[0]
    if (!row) throw new Error(`no row from: ${text}`)
    return row
  }

  /** All that preflight and planning ask of a server. */
  async facts(): Promise<ServerFacts> {
    const settings = new Map<string, string>()
    for (const row of await this.query<{ name: string; setting: string }>(
      'SELECT name, setting FROM pg_settings',
    )) {
      settings.set(row.name, row.setting)
    }
    const row = await this.one<{
      in_recovery: boolean
      identifier: string
      catalog: number
      version: string
    }>(
      `SELECT pg_is_in_recovery() AS in_recovery, current_setting('server_version') AS version,
              system_identifier::text AS identifier, catalog_version_no AS catalog
         FROM pg_control_system()`,
    )
    const dataDirectory = settings.get('data_directory')
    if (dataDirectory === undefined) {
      throw new PgrecallError(
        'connection',
        `the role "${this.#client.user}" may not see the server's data directory`,
        {
          hint: `as a superuser: GRANT pg_read_all_settings TO ${quoteIdentifier(this.#client.user ?? '')}`,
        },
      )
    }
    const version = Number(settings.get('server_version_num'))
    if (version < 100_000) {
      throw new PgrecallError(
        'refused',
        `the server is PostgreSQL ${row.version}; pgrecall knows 10 and later`,
        {
          hint: 'upgrade the server; its own releases ended in 2021',
        },
      )
    }
    return {
      version,
      majorVersion: Math.floor(version / 10_000),
      versionText: row.version,
      // pg_control_system() gives a signed bigint; names and pages have it unsigned.
      systemIdentifier: BigInt.asUintN(64, BigInt(row.identifier)).toString(),
      catalogVersion: row.catalog,
      dataDirectory,
      inRecovery: row.in_recovery,
      // From 11 in bytes; before that in blocks of 8 KiB.
      walSegmentBytes: Number(settings.get('wal_segment_size')) * (version >= 110_000 ? 1 : 8192),
      blockBytes: Number(settings.get('block_size')),
      relationSegmentBlocks: Number(settings.get('segment_size')),
      dataChecksums: settings.get('data_checksums') === 'on',
      walLevel: settings.get('wal_level') ?? '',
      archiveMode: settings.get('archive_mode') ?? 'off',
      archiveCommand: settings.get('archive_command') ?? '',
      archiveLibrary: settings.get('archive_library') ?? '',
      outsideFiles: ['config_file', 'hba_file', 'ident_file']
        .map((name) => settings.get(name) ?? '')
        .filter((path) => path !== '' && !path.startsWith(`${dataDirectory}/`)),
      tablespaces: await this.query(
        `SELECT oid::text AS oid, spcname AS name, pg_tablespace_location(oid) AS location FROM pg_tablespace
          WHERE pg_tablespace_location(oid) LIKE '/%' ORDER BY oid`,
      ),
    }
  }

  /** All of them, by oid; also those that nobody may connect to. */
  databases(): Promise<Database[]> {
    return this.query(
      'SELECT oid::text AS oid, datname AS name, dattablespace::text AS tablespace FROM pg_database ORDER BY pg_database.oid',
    )
  }

  /** What the databases and their tablespaces take up, in bytes; undefined where the role may not ask. */
  async dataBytes(): Promise<number | undefined> {
    try {
      const row = await this.one<{ bytes: string }>(
        'SELECT sum(pg_tablespace_size(oid))::text AS bytes FROM pg_tablespace',
      )
      return Number(row.bytes)
    } catch {
      return undefined
    }
  }

  get user(): string {
    return this.#client.user ?? ''
  }

  async close(): Promise<void> {
    this.#closing = true
    await patiently(this.#client.end(), this.#socket, this.#patience).catch(() => {})
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }
}

/** An SQL identifier, quoted. */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

function sessionLost(cause: unknown): PgrecallError {
  // We gave it up ourselves, and said why.
  if (cause instanceof PgrecallError) return cause
  return new PgrecallError('connection', `the session on the server was lost: ${reasonOf(cause)}`, {
    hint: "look into the server's log for the reason, and run this again",
    cause,
  })
}

function connectionHint(error: unknown): string {
  switch (systemCode(error)) {
    case 'ECONNREFUSED':
    case 'ENOENT':
      return 'is the server running, and do host and port in the configuration (or PGHOST and PGPORT) point to it?'
    case 'EACCES':
      return "run as a user who may use the server's socket, usually postgres"
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return 'the host name does not resolve; correct "connection" in the configuration'
    case '28P01':
      return 'set PGPASSWORD or add a line to ~/.pgpass (mode 0600)'
    case '28000':
      return 'let the user in through pg_hba.conf, run as the matching operating system user, or name another with connection.user'
    case '3D000':
      return 'name an existing database with connection.database; "postgres" usually exists'
    case '53300':
      return 'the server has no free connection; raise max_connections or close others'
    case '57P03':
      return 'the server is starting up or shutting down; try again in a moment'
    default:
      return 'check "connection" in the configuration, or PGHOST, PGPORT, PGUSER and PGDATABASE'
  }
}

import { appendFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { execa } from 'execa'
import { Client, DatabaseError } from 'pg'
import { cleanEnvironment } from './environment.ts'
import { Load, type LoadOptions } from './load.ts'
import { poll } from './poll.ts'
import { Postmaster, type StopMode } from './postmaster.ts'
import { findPrograms, type Programs } from './programs.ts'
import { Scratch } from './scratch.ts'
import { errorWithLog, readServerLog } from './server-log.ts'
import { asConfigurationLines, FAST_SETTINGS, freePort, type Settings } from './settings.ts'
import { makeDataDirectory } from './template.ts'
import { asLabUser } from './user.ts'

export interface ClusterOptions {
  /** Whose server; default the one that `findPrograms` finds. */
  programs?: Programs
  /** A scratch folder to live in, together with others; default one of its own. */
  within?: Scratch
  /** Folder in the scratch for the data directory, the socket and the log; default `main`. */
  name?: string
  /** Go over the lab's fast ones. */
  settings?: Settings
  /** Turns `archive_mode` on. */
  archiveCommand?: string
  /** Page checksums; default on. */
  checksums?: boolean
  /** More options for `initdb`; they imply `fresh`. */
  initdb?: string[]
  /** A system identifier of its own, at the price of an `initdb` (1 s). */
  fresh?: boolean
  /** Default true. */
  start?: boolean
}

export interface AdoptOptions {
  programs?: Programs
  within?: Scratch
  /** Folder in the scratch for the socket and the log; default `adopted`. */
  name?: string
  /** Given on the command line at every start, so they win over what the directory holds. */
  settings?: Settings
}

export interface StartOptions {
  /** `ready` (the default): accepts connections, be it read-only in recovery. `launched`: do not wait. */
  until?: 'ready' | 'launched'
  /** Default 60 s. */
  timeoutMs?: number
}

/** A real server on a socket of its own. */
export class Cluster implements AsyncDisposable {
  readonly programs: Programs
  readonly dataDirectory: string
  /** The socket's folder, which is what libpq takes as a host. */
  readonly host: string
  readonly port: number
  readonly user = 'postgres'
  readonly logFile: string
  readonly #home: string
  readonly #ownScratch: Scratch | undefined
  readonly #commandLine: Settings
  #postmaster: Postmaster | undefined

  private constructor(fields: {
    programs: Programs
    dataDirectory: string
    folder: string
    port: number
    scratch: Scratch
    ownsScratch: boolean
    settings: Settings
  }) {
    this.programs = fields.programs
    this.dataDirectory = fields.dataDirectory
    this.host = fields.folder
    this.port = fields.port
    this.logFile = join(fields.folder, 'server.log')
    this.#home = fields.scratch.path
    this.#ownScratch = fields.ownsScratch ? fields.scratch : undefined
    this.#commandLine = {
      ...fields.settings,
      port: fields.port,
      unix_socket_directories: fields.folder,
    }
  }

  /** Makes a cluster with one database, `postgres`, and starts it. Takes about a second. */
  static async create(options: ClusterOptions = {}): Promise<Cluster> {
    const { programs, scratch, ownsScratch, folder, port } = await lodging(options, 'main')
    const dataDirectory = join(folder, 'data')
    await makeDataDirectory(dataDirectory, { ...options, programs })
    const archiving: Settings =
      options.archiveCommand === undefined
        ? {}
        : { archive_mode: true, archive_command: options.archiveCommand }
    await appendFile(
      join(dataDirectory, 'postgresql.conf'),
      `\n# The lab's own:\n${asConfigurationLines({ ...FAST_SETTINGS, ...archiving, ...options.settings })}`,
    )
    const cluster = new Cluster({ programs, dataDirectory, folder, port, scratch, ownsScratch, settings: {} })
    try {
      if (options.start ?? true) await cluster.start()
    } catch (error) {
      await cluster[Symbol.asyncDispose]()
      throw error
    }
    return cluster
  }

  /**
   * A cluster in a directory that something else made, such as a restore; it gets a socket and a port of its own.
   * Does not start it. Disposing leaves the directory, unless it lies in the scratch.
   */
  static async adopt(dataDirectory: string, options: AdoptOptions = {}): Promise<Cluster> {
    const { programs, scratch, ownsScratch, folder, port } = await lodging(options, 'adopted')
    const settings = options.settings ?? {}
    return new Cluster({ programs, dataDirectory, folder, port, scratch, ownsScratch, settings })
  }

  get isRunning(): boolean {
    return this.#postmaster?.isRunning ?? false
  }

  /** What libpq's programs read. */
  get connectionEnv(): Record<string, string> {
    return { PGHOST: this.host, PGPORT: String(this.port), PGUSER: this.user, PGDATABASE: 'postgres' }
  }

  /** Options for execa that run a program as the lab's user, connected to this cluster. */
  get childOptions() {
    const env = cleanEnvironment(this.#home, this.connectionEnv)
    return { ...asLabUser, cwd: this.#home, env, extendEnv: false } as const
  }

  /** @throws with the end of the log when the server ends or does not get ready */
  async start(options: StartOptions = {}): Promise<void> {
    if (this.isRunning) throw new Error('the server runs already')
    this.#postmaster = new Postmaster({
      programs: this.programs,
      dataDirectory: this.dataDirectory,
      settings: this.#commandLine,
      logFile: this.logFile,
      home: this.#home,
    })
    if (options.until !== 'launched') await this.#postmaster.untilReady(options.timeoutMs ?? 60_000)
  }

  /** Shuts the server down and waits for its end; nothing happens when it is down. */
  async stop(mode: StopMode = 'fast'): Promise<void> {
    if (this.isRunning) await this.#postmaster!.stop(mode, 60_000)
  }

  /** What a crash does: SIGKILL to the server. Resolves when none of its processes is left. */
  async kill9(): Promise<void> {
    if (this.isRunning) await this.#postmaster!.kill()
  }

  /** For a server that is to end by itself. @returns its exit code */
  async waitForExit(timeoutMs = 60_000): Promise<number> {
    if (!this.#postmaster) throw new Error('the server was never started')
    return this.#postmaster.untilEnded(timeoutMs)
  }

  /** Runs SQL in a session of its own. @returns the rows (of the last statement, when there are several) */
  async sql<Row extends object = Record<string, unknown>>(
    text: string,
    options: { database?: string; values?: unknown[] } = {},
  ): Promise<Row[]> {
    await using client = await this.connect(options.database)
    const answer = await client.query(options.values ? { text, values: options.values } : text)
    return (Array.isArray(answer) ? answer.at(-1) : answer).rows
  }

  /** A session that stays open until it is disposed of. */
  async connect(database = 'postgres'): Promise<Client & AsyncDisposable> {
    const { host, port, user } = this
    const client = new Client({ host, port, user, database, connectionTimeoutMillis: 10_000 })
    // Without a listener, a server that is killed under a session would end this process.
    client.on('error', () => {})
    await client.connect()
    return Object.assign(client, { [Symbol.asyncDispose]: () => client.end().catch(() => {}) })
  }

  /**
   * Asks until a condition in SQL holds. Waits also while the server is starting up.
   *
   * @param condition an expression, e.g. `(SELECT count(*) > 3 FROM t)`
   * @throws when the SQL is wrong, the server ends, or 30 s (or `timeoutMs`) are over
   */
  async waitUntil(condition: string, options: { database?: string; timeoutMs?: number } = {}): Promise<void> {
    const { database, timeoutMs = 30_000 } = options
    const check = async () => {
      if (!this.isRunning) throw new Error(`the server ended while waiting for ${condition}`)
      try {
        const [row] = await this.sql<{ holds: boolean }>(
          `SELECT (${condition}) AS holds`,
          database ? { database } : {},
        )
        return row?.holds ?? false
      } catch (error) {
        if (isAboutTheSql(error)) throw error
        return false
      }
    }
    try {
      await poll(check, { what: condition, timeoutMs })
    } catch (error) {
      throw errorWithLog((error as Error).message, this.logFile, error)
    }
  }

  async waitForPromotion(timeoutMs = 60_000): Promise<void> {
    await this.waitUntil('NOT pg_is_in_recovery()', { timeoutMs })
  }

  /** Resolves when recovery has reached its target and stands there. */
  async waitForPaused(timeoutMs = 60_000): Promise<void> {
    const paused =
      this.programs.major >= 14 ? `pg_get_wal_replay_pause_state() = 'paused'` : 'pg_is_wal_replay_paused()'
    await this.waitUntil(`CASE WHEN pg_is_in_recovery() THEN ${paused} ELSE false END`, { timeoutMs })
  }

  /** Ends the current segment and resolves when it, and so all WAL before, is archived. @returns its file name */
  async archiveWal(timeoutMs = 60_000): Promise<string> {
    // A message of our own, since a switch at the very start of a segment does nothing and gives the one before.
    const [row] = await this.sql<{ name: string }>(
      `SELECT pg_walfile_name(pg_logical_emit_message(false, 'lab', 'switch')) AS name; SELECT pg_walfile_name(pg_switch_wal()) AS name`,
    )
    await this.waitUntil(
      `SELECT coalesce(left(last_archived_wal, 24) COLLATE "C" >= '${row!.name}', false) FROM pg_stat_archiver`,
      { timeoutMs },
    )
    return row!.name
  }

  /** All that the server wrote to its log. */
  logText(): string {
    return readServerLog(this.logFile)
  }

  /** Runs one of PostgreSQL's programs, connected to this cluster. @returns stdout @throws when it fails */
  async run(program: string, args: string[] = []): Promise<string> {
    const { stdout } = await execa(this.programs.path(program), args, this.childOptions)
    return stdout
  }

  /**
   * Has a directory compared with its backup_manifest, and its WAL read where the server came with a `pg_waldump`: that
   * of another version cannot.
   *
   * @throws when `pg_verifybackup` finds something wrong
   */
  async verifyBackup(directory: string, options: string[] = []): Promise<void> {
    const unread = this.programs.own('pg_waldump') ? [] : ['--no-parse-wal']
    await this.run('pg_verifybackup', [...unread, ...options, directory])
  }

  /** Runs pgbench to its end, e.g. `['--initialize', '--scale=2']`. @returns stdout @throws when it fails */
  async pgbench(args: string[]): Promise<string> {
    return this.run('pgbench', args)
  }

  /** Starts pgbench in the background, on tables that `pgbench(['--initialize'])` has made. */
  startPgbench(options: LoadOptions = {}): Load {
    return Load.start(this, options)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop('immediate')
    if (this.#ownScratch) await this.#ownScratch[Symbol.asyncDispose]()
    else await rm(this.host, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 })
  }
}

async function lodging(options: ClusterOptions | AdoptOptions, defaultName: string) {
  const programs = options.programs ?? findPrograms()
  if (!programs) throw new Error('no PostgreSQL server found')
  const scratch = options.within ?? (await Scratch.create())
  const folder = await scratch.folder(options.name ?? defaultName)
  return { programs, scratch, ownsScratch: !options.within, folder, port: await freePort() }
}

/** Whether an error is the query's own fault, and asking again would not help. */
function isAboutTheSql(error: unknown): boolean {
  // 57: shutdown, crash, "starting up". 08: the connection. 53: too many of them.
  return error instanceof DatabaseError && !/^(57|08|53)/.test(error.code ?? '')
}

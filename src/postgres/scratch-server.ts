import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, readFile, realpath } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { PgrecallError, reasonOf } from '../errors.ts'
import { programFailure } from './client-errors.ts'
import { type Environment, findProgram, type Program } from './client-programs.ts'
import { ProgramRun } from './program-run.ts'
import { type ConnectionOptions, Server } from './server.ts'

/** The programs of a server, of one version. */
export interface ServerPrograms {
  initdb: Program
  postgres: Program
}

export interface ScratchOptions {
  /** Where it lives: empty, of mode 0700, and this user's own. Whoever made it removes it, when the server has ended. */
  folder: string
  /** Where its socket lies, of which the path must not be long; as the folder, or the folder itself. */
  socketFolder: string
  /** The name of the bootstrap superuser. */
  superuser: string
  /** How many things a transaction may lock. */
  locks: number
  env: Environment
  signal: AbortSignal
}

/** A name for the socket, and no more: nothing listens on the network. */
const PORT = 5432
/** For as many databases side by side as anybody may ask for. */
const CONNECTIONS = 200
const LEAST_LOCKS = 40_000
const START_MS = 120_000
const TAIL_LINES = 10

/**
 * Runs a server until it ends, or until whoever started this is gone, even by SIGKILL: then the input ends. Who reads that waits
 * beside, so that the server's own end is told at once. The second signal is for an immediate shutdown. As the shell starts what
 * runs beside it deaf for that one, a server that does not listen yet is ended by the first.
 */
const GUARDED = `
exec 3<&0 </dev/null
"$@" 3<&- & server=$!
{ read -r _ <&3; kill -TERM "$server"; kill -QUIT "$server"; } 2>/dev/null & guard=$!
exec 3<&-
wait "$server"; code=$?
kill "$guard" 2>/dev/null
exit "$code"`

/**
 * What it takes to make a cluster and run it.
 * @returns undefined where there is none of this major version or a later one
 */
export async function findServerPrograms(
  atLeastMajor: number,
  env: Environment,
): Promise<ServerPrograms | undefined> {
  const initdb = await findProgram('initdb', atLeastMajor, env)
  if (!initdb) return undefined
  // As initdb finds it: beside itself, and not beside a link to it.
  const path = join(dirname(await realpath(initdb.path)), 'postgres')
  return { initdb, postgres: { ...initdb, path } }
}

/**
 * A server for this process alone, with nothing in it. It forgets all in a crash, listens on a socket in a folder that nobody
 * else may enter, takes whoever gets there for whom he says he is, archives nothing and replicates nothing. What is loaded into
 * it may connect elsewhere, as a materialized view over a foreign table does. It ends with this process, however that ends.
 *
 * Disposing ends it at once; the folder stays.
 */
export class ScratchServer implements AsyncDisposable {
  /** As the superuser. */
  readonly connection: ConnectionOptions
  readonly #guard: ChildProcess
  readonly #ended: Promise<unknown>
  readonly #logFile: string

  private constructor(guard: ChildProcess, options: ScratchOptions) {
    this.#guard = guard
    // It ends before its turn when the server does, and then nobody reads any more.
    guard.stdin!.on('error', () => {})
    this.#ended = once(guard, 'exit').catch(() => {})
    this.#logFile = logFileOf(options)
    this.connection = {
      host: options.socketFolder,
      port: PORT,
      user: options.superuser,
      database: 'postgres',
    }
  }

  /**
   * Makes a cluster and starts it, which takes a second or two.
   * @throws PgrecallError `failed`, as to root, or with the end of the log; the signal's reason
   */
  static async start(programs: ServerPrograms, options: ScratchOptions): Promise<ScratchServer> {
    await makeCluster(programs.initdb, options)
    const log = await open(logFileOf(options), 'a', 0o600)
    await using started = new AsyncDisposableStack()
    try {
      const { path, majorVersion } = programs.postgres
      const args = ['-c', GUARDED, 'sh', path, '-D', dataIn(options), ...settingsOf(options, majorVersion)]
      // In a session of its own: Ctrl-C at a terminal is for us, and we end the server when nobody uses it any more.
      const guard = spawn('/bin/sh', args, {
        cwd: options.folder,
        env: { ...options.env, LC_ALL: 'C' },
        detached: true,
        stdio: ['pipe', log.fd, log.fd],
      })
      const server = started.use(new ScratchServer(guard, options))
      await server.#untilReady(options)
      started.move()
      return server
    } finally {
      await log.close()
    }
  }

  /**
   * After something went wrong: whether it was the server that did.
   * @throws PgrecallError `failed`, with the end of the log, where it lets nobody in any more
   */
  async requireAlive(): Promise<void> {
    try {
      await using _session = await Server.connect(this.connection)
    } catch (error) {
      await this[Symbol.asyncDispose]()
      throw await this.#failure('ended on the way', error)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#guard.stdin!.destroy()
    await this.#ended
  }

  /** By the line that the server writes for its own programs. @see src/include/utils/pidfile.h */
  async #untilReady(options: ScratchOptions): Promise<void> {
    const deadline = performance.now() + START_MS
    const pidFile = join(dataIn(options), 'postmaster.pid')
    const { signal } = options
    for (;;) {
      const [, , , , , , , status = ''] = (await readFile(pidFile, 'utf8').catch(() => '')).split('\n')
      if (status.trim() === 'ready') return
      const { exitCode, signalCode, pid } = this.#guard
      const isGone = exitCode !== null || signalCode !== null || pid === undefined
      if (isGone || performance.now() > deadline) throw await this.#failure('does not start')
      await pause(20, undefined, { signal }).catch(() => signal.throwIfAborted())
    }
  }

  async #failure(what: string, cause?: unknown): Promise<PgrecallError> {
    const log = await readFile(this.#logFile, 'utf8').catch(() => '')
    const tail = log.trimEnd().split('\n').slice(-TAIL_LINES).join('\n')
    return new PgrecallError(
      'failed',
      `the scratch server ${what}: ${reasonOf(tail || 'its log is empty')}`,
      {
        hint: 'see that this host has enough memory, and enough room in the scratch folder, and run this again',
        cause,
      },
    )
  }
}

const dataIn = ({ folder }: ScratchOptions) => join(folder, 'data')
const logFileOf = ({ folder }: ScratchOptions) => join(folder, 'server.log')

/** @see https://www.postgresql.org/docs/current/app-initdb.html */
async function makeCluster(initdb: Program, options: ScratchOptions): Promise<void> {
  const { superuser, env, signal } = options
  const args = [
    `--pgdata=${dataIn(options)}`,
    `--username=${superuser}`,
    '--auth=trust',
    '--encoding=UTF8',
    '--locale=C',
    '--no-sync',
  ]
  await using run = new ProgramRun(initdb, env, { args, input: false, signal }).ignoreOutput()
  const end = await run.ended()
  if (!end.isGood) throw programFailure('initdb', run.words, end)
}

/**
 * What is loaded can be loaded again, so nothing has to survive a crash; and nothing is to reach out by itself.
 * @see https://www.postgresql.org/docs/current/non-durability.html
 */
function settingsOf({ socketFolder, locks }: ScratchOptions, majorVersion: number): string[] {
  const settings = {
    archive_mode: 'off',
    autovacuum: 'off',
    cluster_name: 'pgrecall scratch',
    // In files of the data directory: elsewhere a server that is killed leaves it behind.
    dynamic_shared_memory_type: 'mmap',
    fsync: 'off',
    full_page_writes: 'off',
    listen_addresses: '',
    logging_collector: 'off',
    max_connections: String(CONNECTIONS),
    max_locks_per_transaction: String(Math.ceil(Math.max(LEAST_LOCKS, locks) / CONNECTIONS)),
    // A subscription that is restored is disabled; this holds whatever the dump says.
    max_logical_replication_workers: '0',
    max_wal_senders: '0',
    max_wal_size: '256MB',
    port: String(PORT),
    // Who lost a session asks whether there is still a server.
    restart_after_crash: 'off',
    shared_buffers: '128MB',
    synchronous_commit: 'off',
    unix_socket_directories: socketFolder,
    unix_socket_permissions: '0700',
    wal_level: 'minimal',
    // From 17 one may fire when we connect.
    ...(majorVersion >= 17 && { event_triggers: 'off' }),
  }
  return Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
}

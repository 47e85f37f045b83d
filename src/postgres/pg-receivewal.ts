import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, constants } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Writable } from 'node:stream'
import { PgrecallError, reasonOf } from '../errors.ts'
import { type Environment, type Program, replicationArguments } from './client-programs.ts'
import { findPgBasebackup } from './pg-basebackup.ts'
import type { ConnectionOptions } from './server.ts'

export interface ReceivingOptions {
  connection: ConnectionOptions
  /** Where the segments go. */
  directory: string
  slot: string
  /** Each write is on the disk before the server is told of it, and it is told at once. */
  synchronous: boolean
  /** Ends the program in its own way. */
  signal: AbortSignal
}

/** Why the program ended. */
export interface ReceivingEnd {
  /** In its words, or the server's. */
  reason: string
  /** The segment that it asked for, when the server has removed that. */
  removedSegment: string | undefined
}

/** What `synchronous_standby_names` can name. */
export const RECEIVER_NAME = 'pgrecall'

/** How long the program may take to end when it is told to; it only closes its file. */
const END_MS = 5000
/** Enough of its words to say why it ended. */
const LAST_WORDS_BYTES = 64 * 1024

/**
 * The program must not outlive us, whatever we die of: it would hold the slot, and receive what nobody stores. So a
 * shell waits for the end of a pipe that we hold, beside the program that it becomes; the kernel closes a pipe for
 * everybody. A line in the pipe says that there is nothing left to end.
 */
const BOUND_TO_US = `{ read -r line <&3 || kill -INT $$; } >/dev/null 2>&1 &
exec "$0" "$@" 3<&-`

/**
 * Finds a `pg_receivewal` that is not older than the server, which it would refuse. It comes in one package with
 * `pg_basebackup`, and lies beside it.
 * @throws PgrecallError `refused` when there is none
 */
export async function findPgReceivewal(serverMajor: number, env: Environment): Promise<Program> {
  const basebackup = await findPgBasebackup(serverMajor, env)
  const path = basebackup && join(dirname(basebackup.path), 'pg_receivewal')
  if (path && (await isProgram(path))) return { ...basebackup, path }
  throw new PgrecallError('refused', `no pg_receivewal of PostgreSQL ${serverMajor} or later was found`, {
    hint: `install the client programs (Debian and Ubuntu: postgresql-client-${serverMajor}), or put their folder on PATH`,
  })
}

const isProgram = (path: string) =>
  access(path, constants.X_OK).then(
    () => true,
    () => false,
  )

/**
 * Receives WAL into a folder until the connection is lost or the signal comes. A segment is `<name>.partial`, filled up
 * with zeros to its full size, until it is whole; histories of timelines come along.
 * @see https://www.postgresql.org/docs/current/app-pgreceivewal.html
 */
export async function pgReceivewal(
  program: Program,
  env: Environment,
  options: ReceivingOptions,
): Promise<ReceivingEnd> {
  const { args, secrets } = replicationArguments(options.connection)
  const child = spawn('/bin/sh', ['-c', BOUND_TO_US, program.path, ...args, ...receivingArguments(options)], {
    // Its messages are read, so they have to be in one language; the server's own stay in the server's.
    env: { ...env, ...secrets, LC_ALL: 'C', PG_COLOR: 'never', PGAPPNAME: RECEIVER_NAME },
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
  })
  const pipe = child.stdio[3] as Writable
  pipe.on('error', () => {})
  child.once('exit', () => pipe.end('\n', () => pipe.destroy()))
  let words = ''
  child.stderr!.on('data', (chunk: Buffer) => {
    words = (words + chunk.toString('utf8')).slice(-LAST_WORDS_BYTES)
  })
  let impatience: NodeJS.Timeout | undefined
  const end = () => {
    pipe.destroy()
    impatience = setTimeout(() => child.kill('SIGKILL'), END_MS)
  }
  options.signal.addEventListener('abort', end)
  if (options.signal.aborted) end()
  try {
    const [code, killedBy] = (await once(child, 'close')) as [number | null, string | null]
    return describeEnd(words, killedBy ? `it was ended by ${killedBy}` : `exit code ${code}`)
  } catch (error) {
    throw new PgrecallError('failed', `${program.path} could not be started: ${reasonOf(error)}`, {
      cause: error,
    })
  } finally {
    options.signal.removeEventListener('abort', end)
    clearTimeout(impatience)
  }
}

/** Exported for tests. */
export function receivingArguments({ directory, slot, synchronous }: ReceivingOptions): string[] {
  return [
    `--directory=${directory}`,
    `--slot=${slot}`,
    ...(synchronous ? ['--synchronous'] : []),
    // So often the server hears how far it is: pg_stat_replication tells the truth, and a dead connection is noticed.
    '--status-interval=1',
    // We look at everything anew before the next try.
    '--no-loop',
    '--no-password',
  ]
}

/** Exported for tests. @param words what the program wrote; what the server said therein may be in any language */
export function describeEnd(words: string, otherwise: string): ReceivingEnd {
  const lines = words
    .split('\n')
    .flatMap((line) => /^pg_receivewal: (?:error|fatal): +(.*)/.exec(line)?.[1] ?? [])
  const line = lines.find((text) => text !== 'disconnected')
  const fromServer =
    /could not (?:send replication command|receive data from WAL stream)|unexpected termination/
  const removed = line && fromServer.test(line) ? /\b[0-9A-F]{24}\b/.exec(line)?.[0] : undefined
  const said = /(?:FATAL|ERROR): +(.*)/.exec(line ?? words)?.[1]
  return { reason: reasonOf(said ?? line ?? otherwise), removedSegment: removed }
}

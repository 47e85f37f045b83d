import { execa } from 'execa'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { BackupPart, BaseBackupOptions } from './base-backup.ts'
import { backupError } from './base-backup-errors.ts'
import { type Environment, findProgram, type Program, replicationArguments } from './client-programs.ts'
import { replicationHint } from './replication.ts'

/** The program opens a file for the manifest; this is one that needs no name of its own. */
const MANIFEST_INPUT = '/dev/stdin'

/** Enough of the program's words to say why it failed. */
const LAST_WORDS_BYTES = 64 * 1024

/**
 * Finds a `pg_basebackup` that is not older than the server, which it would refuse.
 * @returns undefined when there is none
 */
export const findPgBasebackup = (serverMajor: number, env: Environment) =>
  findProgram('pg_basebackup', serverMajor, env)

/**
 * Takes a base backup with PostgreSQL's own program, which writes one archive to its output: for clusters without
 * tablespaces of their own, from servers of 13 and later. The manifest is a member of the archive, `backup_manifest`;
 * where the backup starts and ends stands in the label and in the manifest.
 *
 * Without WAL the server waits at the end until its archiver has stored what the backup needs.
 *
 * @throws PgrecallError `connection` when the server is lost, `failed` when the backup breaks off; the signal's reason
 * @see https://www.postgresql.org/docs/current/app-pgbasebackup.html
 */
export async function* pgBasebackup(
  program: Program,
  env: Environment,
  options: BaseBackupOptions,
): AsyncGenerator<BackupPart> {
  const { signal } = options
  signal.throwIfAborted()
  const { args, secrets } = replicationArguments(options.connection)
  const child = execa(program.path, [...args, ...backupArguments(options)], {
    // Its messages are read, so they have to be in one language; the server's own stay in the server's.
    env: { ...env, ...secrets, LC_ALL: 'C', PG_COLOR: 'never', PGAPPNAME: 'pgrecall' },
    extendEnv: false,
    // Any descriptor, although the type has only the first ones.
    stdin: (options.parentManifest as 3 | undefined) ?? 'ignore',
    buffer: false,
    reject: false,
    cancelSignal: signal,
  })
  const words = new Words(options)
  child.stderr.on('data', (chunk: Buffer) => words.push(chunk))
  try {
    yield { kind: 'archive', tablespaceOid: undefined }
    for await (const bytes of child.stdout) yield { kind: 'data', bytes }
    const { exitCode, cause, signal: killedBy } = await child
    signal.throwIfAborted()
    if (exitCode === 0) return
    if (words.tellsOfChecksums) options.onWarning('the server found damaged pages in what it sent')
    else {
      const otherwise = killedBy ? `it was ended by ${killedBy}` : reasonOf(cause ?? `exit code ${exitCode}`)
      throw programError(words.last, otherwise, options)
    }
  } catch (error) {
    signal.throwIfAborted()
    throw error
  } finally {
    child.kill()
    await child
  }
}

/** Exported for tests: the options that the server is asked with. */
export function backupArguments(options: BaseBackupOptions): string[] {
  const { label, checkpoint, wal, maxRateKiB, parentManifest } = options
  return [
    '--pgdata=-',
    '--format=tar',
    `--wal-method=${wal ? 'fetch' : 'none'}`,
    `--checkpoint=${checkpoint}`,
    `--label=${label}`,
    '--manifest-checksums=SHA256',
    '--no-password',
    ...(maxRateKiB === undefined ? [] : [`--max-rate=${maxRateKiB}k`]),
    ...(parentManifest === undefined ? [] : [`--incremental=${MANIFEST_INPUT}`]),
  ]
}

function programError(
  words: string,
  otherwise: string,
  { connection: { user, host }, parentManifest }: BaseBackupOptions,
): PgrecallError {
  const reason = /(?:FATAL|ERROR): +(.*)/.exec(words)?.[1] ?? /error: (.*)/s.exec(words)?.[1] ?? otherwise
  if (words.includes('connection to server')) {
    const role = user ?? / user "([^"]+)"/.exec(words)?.[1] ?? ''
    return new PgrecallError('connection', `pg_basebackup could not connect: ${reasonOf(reason)}`, {
      hint: replicationHint(reason, role, host ?? ''),
    })
  }
  if (/FATAL|could not receive|closed the connection|terminating connection/.test(words)) {
    return new PgrecallError('connection', `pg_basebackup lost the server: ${reasonOf(reason)}`, {
      hint: "look into the server's log for the reason, and run this again",
    })
  }
  const isIncremental = parentManifest !== undefined
  return backupError({ by: 'pg_basebackup', reason: reasonOf(reason), words, isIncremental })
}

/** What the program says: warnings are handed on as they come, the last words are kept. */
class Words {
  readonly #options: Pick<BaseBackupOptions, 'onWarning' | 'onWaiting'>
  #rest = ''
  last = ''

  constructor(options: Pick<BaseBackupOptions, 'onWarning' | 'onWaiting'>) {
    this.#options = options
  }

  push(chunk: Buffer): void {
    const text = chunk.toString('utf8')
    this.last = (this.last + text).slice(-LAST_WORDS_BYTES)
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop()!
    for (const line of lines) {
      const warning = /^(?:pg_basebackup: warning|WARNING): +(.*)/.exec(line)?.[1]
      if (warning?.startsWith('still waiting for WAL summarization')) this.#options.onWaiting(warning)
      else if (warning) this.#options.onWarning(warning)
    }
  }

  /** Told after the whole backup was handed over. */
  get tellsOfChecksums(): boolean {
    return this.last.includes('error: checksum error occurred')
  }
}

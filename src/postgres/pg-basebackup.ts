import { readdir } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { execa } from 'execa'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { BackupPart, BaseBackupOptions } from './base-backup.ts'
import { backupError } from './base-backup-errors.ts'
import { replicationHint } from './replication.ts'
import type { ConnectionOptions } from './server.ts'

type Environment = Record<string, string | undefined>

export interface Program {
  path: string
  majorVersion: number
}

/** Where packages put PostgreSQL's programs: Debian's and its kin, and those of postgresql.org for Red Hat's. */
const PLACES = [
  { parent: '/usr/lib/postgresql', pattern: /^\d+$/ },
  { parent: '/usr', pattern: /^pgsql-\d+$/ },
]

/** The program opens a file for the manifest; this is one that needs no name of its own. */
const MANIFEST_INPUT = '/dev/stdin'

/** Enough of the program's words to say why it failed. */
const LAST_WORDS_BYTES = 64 * 1024

/**
 * Finds a `pg_basebackup` that is not older than the server, which it would refuse: on PATH, in the packages' folders
 * from the newest on, and where `pg_config` says.
 * @returns undefined when there is none
 */
export async function findPgBasebackup(serverMajor: number, env: Environment): Promise<Program | undefined> {
  for await (const folder of folders(env)) {
    const program = await programIn(folder, env)
    if (program && program.majorVersion >= serverMajor) return program
  }
  return undefined
}

async function* folders(env: Environment): AsyncGenerator<string> {
  yield* (env.PATH ?? '').split(delimiter).filter((folder) => folder !== '')
  for (const { parent, pattern } of PLACES) {
    const names = await readdir(parent).catch(() => [])
    const newestFirst = names.filter((name) => pattern.test(name)).sort((a, b) => versionIn(b) - versionIn(a))
    yield* newestFirst.map((name) => join(parent, name, 'bin'))
  }
  const { stdout, failed } = await execa('pg_config', ['--bindir'], { env, extendEnv: false, reject: false })
  if (!failed) yield stdout
}

const versionIn = (name: string) => Number(/\d+$/.exec(name)?.[0])

async function programIn(folder: string, env: Environment): Promise<Program | undefined> {
  const path = join(folder, 'pg_basebackup')
  const { stdout } = await execa(path, ['--version'], { env, extendEnv: false, reject: false })
  const version = /\(PostgreSQL\) (\d+)/.exec(stdout ?? '')?.[1]
  return version === undefined ? undefined : { path, majorVersion: Number(version) }
}

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
  const { args, secrets } = connectionArguments(options.connection)
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

/**
 * How the program is told where to connect. Everybody on the host can read the arguments of a process, so secrets go by
 * its environment.
 */
export function connectionArguments(connection: ConnectionOptions): {
  args: string[]
  secrets: Record<string, string>
} {
  const { uri, host, port, user, password } = connection
  if (uri === undefined) {
    const args = [
      ...(host === undefined ? [] : [`--host=${host}`]),
      ...(port === undefined ? [] : [`--port=${port}`]),
      ...(user === undefined ? [] : [`--username=${user}`]),
    ]
    return { args, secrets: password === undefined ? {} : { PGPASSWORD: password } }
  }
  // As the driver reads it: a password may hold an "@" that nobody escaped.
  const [, scheme = '', who = '', rest = ''] = /^(\w+:\/\/)(?:([^/?#]*)@)?(.*)$/s.exec(uri) ?? []
  const colon = who.indexOf(':')
  const name = colon < 0 ? who : who.slice(0, colon)
  const inName = colon < 0 ? undefined : who.slice(colon + 1)
  const [place = '', query = ''] = rest.split(/\?(.*)/s)
  const settings = query.split('&').filter((setting) => setting !== '')
  const isSecret = (setting: string) => /^(?:ssl)?password=/.test(setting)
  const inQuery = settings.find((setting) => setting.startsWith('password='))?.slice('password='.length)
  const open = settings.filter((setting) => !isSecret(setting)).join('&')
  const secret = inQuery ?? inName ?? password
  const plain = `${scheme}${name && `${name.replaceAll('@', '%40')}@`}${place}${open && `?${open}`}`
  const asWritten = secret === password ? secret : secret && decodeURIComponent(secret)
  return { args: [`--dbname=${plain}`], secrets: asWritten === undefined ? {} : { PGPASSWORD: asWritten } }
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

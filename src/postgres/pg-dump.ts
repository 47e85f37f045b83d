import { PgrecallError } from '../errors.ts'
import { BulkOutput } from './bulk-output.ts'
import { programFailure } from './client-errors.ts'
import { connectionArguments, connectionString, type Environment, type Program } from './client-programs.ts'
import { refuseOwnOptions } from './dump-options.ts'
import { ProgramRun } from './program-run.ts'
import type { ConnectionOptions } from './server.ts'

/** What of a database is dumped; patterns are those of psql's `\d`. Left out means all. */
export interface DumpSelection {
  tables?: string[]
  excludeTables?: string[]
  schemas?: string[]
  excludeSchemas?: string[]
  /** Their definition is dumped, their rows are not. */
  excludeTableData?: string[]
  schemaOnly?: boolean
  dataOnly?: boolean
}

interface AnyDumpOptions {
  /** Longest wait for the lock of a table; without a limit when left out. */
  lockWaitMs?: number
  /** More options, as the user wrote them. */
  extra?: string[]
  signal: AbortSignal
  onWarning: (text: string) => void
}

export interface DumpOptions extends AnyDumpOptions {
  connection: ConnectionOptions & { database: string }
  /** Of the archive; that of the session, which a role or the environment may set, when left out. */
  encoding?: string
  /** Of `pg_export_snapshot()`; the session that made it must be open until the dump ends. */
  snapshot?: string
  /** `none`, `gzip`, `gzip:6`, and from 16 `zstd:1`, `lz4`...; the program's own choice when left out. */
  compress?: string
  selection?: DumpSelection
}

export interface DumpAllOptions extends AnyDumpOptions {
  connection: ConnectionOptions
  /** Roles, tablespaces and the privileges on settings; else all databases as well, as one script. */
  globalsOnly: boolean
  /** Only a superuser may read the passwords of roles. */
  withoutPasswords?: boolean
}

/**
 * Dumps a database as an archive (`custom`) or a script (`plain`). When the last piece has come, the program has ended well:
 * whatever goes wrong is thrown before this ends.
 *
 * @returns pieces of 1 MiB, each valid until the next one is asked for
 * @throws PgrecallError `connection`, `refused` (a privilege, row security, an old program), `absent` (a pattern fits
 * nothing), `usage` (an extra option that cannot be), `failed` (a lock, and all else); the signal's reason
 * @see https://www.postgresql.org/docs/current/app-pgdump.html
 */
export async function* pgDump(
  program: Program,
  env: Environment,
  options: DumpOptions & { format: 'custom' | 'plain' },
): AsyncGenerator<Buffer> {
  const { args, secrets } = dumpArguments(program, options)
  yield* output(program, env, [...args, `--format=${options.format}`], secrets, options, dumpOf(options))
}

/**
 * Dumps a database into a folder, with several sessions at once. The folder must not exist or be empty.
 * @throws as `pgDump`
 */
export async function pgDumpDirectory(
  program: Program,
  env: Environment,
  options: DumpOptions & { directory: string; jobs: number },
): Promise<void> {
  const { args, secrets } = dumpArguments(program, options)
  const { directory, jobs } = options
  // Who stores the files elsewhere has no need of them after a crash.
  const place = ['--format=directory', `--file=${directory}`, `--jobs=${jobs}`, '--no-sync']
  for await (const _nothing of output(program, env, [...args, ...place], secrets, options, dumpOf(options)));
}

/**
 * Dumps what belongs to the whole cluster, and with `globalsOnly` false every database behind it, as one script for psql.
 * A database whose name holds a line break makes it fail: it starts `pg_dump` through a shell.
 *
 * @returns as `pgDump`
 * @throws as `pgDump`
 * @see https://www.postgresql.org/docs/current/app-pg-dumpall.html
 */
export async function* pgDumpall(
  program: Program,
  env: Environment,
  options: DumpAllOptions,
): AsyncGenerator<Buffer> {
  const { extra = [], globalsOnly, withoutPasswords } = options
  refuseOwnOptions('pg_dumpall', extra)
  const { database, ...connection } = options.connection
  const { args, secrets } = connectionArguments(connection)
  const all = [
    ...args,
    // This program's --dbname is a connection string whose database has no meaning.
    ...(database === undefined ? [] : [`--database=${connectionString(database)}`]),
    ...commonArguments(options),
    // Otherwise it is that of whichever database it connects to, and names are read from it.
    ...(globalsOnly ? ['--globals-only', '--encoding=UTF8'] : []),
    ...(withoutPasswords ? ['--no-role-passwords'] : []),
    ...extra,
  ]
  yield* output(program, env, all, secrets, options, 'pg_dumpall')
}

/**
 * Whether this `pg_dump` can compress so: that is a matter of its version and of how it was built. It is asked for
 * something that it refuses right after it has accepted the method, before it connects.
 * @param compress as in `DumpOptions`
 */
export async function canCompress(program: Program, env: Environment, compress: string): Promise<boolean> {
  if (program.majorVersion < 16) return levelOf(compress) !== undefined
  const args = ['--format=custom', '--jobs=2', `--compress=${compress}`]
  await using run = new ProgramRun(program, env, { args, input: false }).ignoreOutput()
  await run.ended()
  return run.words.includes('parallel backup only supported by the directory format')
}

async function* output(
  program: Program,
  env: Environment,
  args: string[],
  settings: Record<string, string>,
  { signal, onWarning }: AnyDumpOptions,
  what: string,
): AsyncGenerator<Buffer> {
  signal.throwIfAborted()
  const onLine = (line: string) => {
    const warning = /^(?:pg_dump(?:all)?: warning|WARNING): +(.*)/.exec(line)?.[1]
    if (warning !== undefined) onWarning(warning)
  }
  using bulk = await BulkOutput.open()
  await using run = new ProgramRun(program, env, { args, settings, input: false, bulk, signal, onLine })
  try {
    for await (const piece of run.stdout) yield piece
  } catch (error) {
    // Of an output that was cut off because of the signal.
    signal.throwIfAborted()
    throw error
  }
  const end = await run.ended()
  if (end.isGood) return
  const database = /pg_dumpall: error: pg_dump failed on database "(.*)", exiting/s.exec(run.words)?.[1]
  throw programFailure(database === undefined ? what : `${what} of "${database}"`, run.words, end)
}

const dumpOf = ({ connection }: DumpOptions) => `pg_dump of "${connection.database}"`

function dumpArguments(program: Program, options: DumpOptions) {
  const { connection, encoding, snapshot, compress, selection = {}, extra = [] } = options
  refuseOwnOptions('pg_dump', extra)
  const { args, secrets } = connectionArguments(connection)
  const all = [
    ...args,
    ...commonArguments(options),
    ...(encoding === undefined ? [] : [`--encoding=${encoding}`]),
    ...(snapshot === undefined ? [] : [`--snapshot=${snapshot}`]),
    ...(compress === undefined ? [] : compressArguments(program, compress)),
    ...selectionArguments(selection),
    ...extra,
  ]
  return { args: all, secrets }
}

const commonArguments = ({ lockWaitMs }: AnyDumpOptions) => [
  '--no-password',
  ...(lockWaitMs === undefined ? [] : [`--lock-wait-timeout=${lockWaitMs}`]),
]

function selectionArguments(selection: DumpSelection): string[] {
  const each = (option: string, patterns: string[] = []) =>
    patterns.map((pattern) => `--${option}=${pattern}`)
  const { tables, schemas } = selection
  return [
    ...each('table', tables),
    ...each('exclude-table', selection.excludeTables),
    ...each('schema', schemas),
    ...each('exclude-schema', selection.excludeSchemas),
    ...each('exclude-table-data', selection.excludeTableData),
    ...(selection.schemaOnly ? ['--schema-only'] : []),
    ...(selection.dataOnly ? ['--data-only'] : []),
    // Of several patterns each has to fit something, or a table that was misspelled would be missed at the restore.
    ...(tables?.length || schemas?.length ? ['--strict-names'] : []),
  ]
}

function compressArguments(program: Program, compress: string): string[] {
  if (program.majorVersion >= 16) return [`--compress=${compress}`]
  const level = levelOf(compress)
  if (level === undefined) {
    throw new PgrecallError('refused', `pg_dump ${program.majorVersion} cannot compress with "${compress}"`, {
      hint: 'before 16 it knows "none" and "gzip"',
    })
  }
  return level === '' ? [] : [`--compress=${level}`]
}

/** zlib's level, all that a program before 16 can be told; empty for its default. */
function levelOf(compress: string): string | undefined {
  return compress === 'none'
    ? '0'
    : /^gzip(?::([1-9]))?$/
        .exec(compress)
        ?.slice(1)
        .map((level) => level ?? '')[0]
}

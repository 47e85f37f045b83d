import { type ArchiveList, type KnownNames, parseArchiveList } from './archive-list.ts'
import { programFailure } from './client-errors.ts'
import { connectionArguments, type Environment, type Program } from './client-programs.ts'
import { decodeNames } from './name-decoder.ts'
import { ProgramRun } from './program-run.ts'
import { type RestoreErrors, RestoreMessages } from './restore-messages.ts'
import type { ConnectionOptions } from './server.ts'

/** An archive that streams by, or lies in a file; in the directory format, in a folder. */
export type ArchiveInput = AsyncIterable<Buffer> | { file: string }

/** What of an archive is restored, and how. Left out means all, and as it was. */
export interface RestoreSelection {
  /** Begins with `CREATE DATABASE`, of the name that the archive has, and goes on in there. */
  create?: boolean
  /** Drops what it is about to make, if that exists. */
  clean?: boolean
  noOwner?: boolean
  noPrivileges?: boolean
  schemaOnly?: boolean
  dataOnly?: boolean
  /** A file with lines of the archive's list: what is restored, in this order. */
  useList?: string
  /** `SET ROLE` at the start. */
  role?: string
}

export interface RestoreOptions extends RestoreSelection {
  /** The database that is restored into; with `create` any that exists. */
  connection: ConnectionOptions & { database: string }
  /** Sessions side by side; only from a file. */
  jobs?: number
  /** All or nothing, by one session; otherwise errors of statements are counted, and it goes on. */
  singleTransaction?: boolean
  signal: AbortSignal
  /** Called with each warning and each error, in one line. */
  onMessage: (text: string) => void
}

/**
 * Lists what an archive holds, as it lies in a file or passes by. All of the list comes at the start of an archive, so
 * that what is behind is not read: that there is a list does not mean that the archive is whole.
 *
 * Where `--create` matters, the list has the database itself too.
 * @throws PgrecallError `damaged` when there is no list, `refused` when the program is too old for the archive
 */
export async function listArchive(
  program: Program,
  env: Environment,
  input: ArchiveInput,
  options: ListOptions = {},
): Promise<ArchiveList> {
  await using listing = new ArchiveListing(program, env, { ...options, ...('file' in input ? input : {}) })
  if (!('file' in input)) await listing.readFrom(input)
  return await listing.result()
}

export interface ListOptions {
  known?: KnownNames
  signal?: AbortSignal
}

/** A list that is made of an archive while it is on its way to somewhere else. */
export class ArchiveListing implements AsyncDisposable {
  readonly #run: ProgramRun
  readonly #text: Promise<string>
  readonly #known: KnownNames | undefined

  /** @param options `file` when the archive does not pass by */
  constructor(program: Program, env: Environment, options: ListOptions & { file?: string } = {}) {
    const { file, signal, known } = options
    const args = ['--list', '--create', ...(file === undefined ? [] : [file])]
    this.#run = new ProgramRun(program, env, { args, input: file === undefined, signal })
    this.#known = known
    // Read at once: a program that cannot write its list would not read on either.
    this.#text = textOf(this.#run.stdout, known?.encoding)
    this.#text.catch(() => {})
  }

  /** Hands the pieces on, each when the list has what it needs of it; it soon needs no more. */
  async *tee(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const piece of pieces) {
      await this.#run.write(piece)
      yield piece
    }
    this.#run.endInput()
  }

  /** Reads as much of the pieces as the list needs. */
  readFrom(pieces: AsyncIterable<Buffer>): Promise<void> {
    return this.#run.writeAll(pieces)
  }

  /** @throws as `listArchive` */
  async result(): Promise<ArchiveList> {
    const end = await this.#run.ended()
    if (!end.isGood) throw programFailure('pg_restore --list', this.#run.words, { ...end, reading: true })
    return parseArchiveList(await this.#text, this.#known)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#run[Symbol.asyncDispose]()
  }
}

async function textOf(stream: AsyncIterable<Buffer>, encoding: string | undefined): Promise<string> {
  return decodeNames(Buffer.concat(await Array.fromAsync(stream)), encoding)
}

/**
 * Restores an archive into a database. What the server refuses is counted and passed over, unless all
 * of it is one transaction.
 *
 * @throws PgrecallError `connection`, also when the server is lost on the way; `damaged` when the archive cannot be read
 * to its end; `failed` or `refused` at the first error in one transaction; what the input throws; the signal's reason
 * @see https://www.postgresql.org/docs/current/app-pgrestore.html
 */
export async function pgRestore(
  program: Program,
  env: Environment,
  options: RestoreOptions,
  input: ArchiveInput,
): Promise<RestoreErrors> {
  const { connection, signal, onMessage } = options
  const { args, secrets } = connectionArguments(connection)
  const messages = new RestoreMessages(onMessage)
  await using run = new ProgramRun(program, env, {
    args: [...args, ...restoreArguments(options), ...selectionArguments(options), ...fileArgument(input)],
    settings: secrets,
    input: !('file' in input),
    signal,
    onLine: (line) => messages.push(line),
  }).ignoreOutput()
  if (!('file' in input)) await run.writeAll(input)
  const end = await run.ended()
  const { errors, ignored, lastError, loss } = messages.finish()
  const by = `pg_restore into "${connection.database}"`
  if (loss !== undefined) throw programFailure(by, `error: ${loss}`, end)
  // It ends with 1 when it has passed over errors, as it does when it gives up; but only then it tells at last how many.
  if (end.isGood || (end.exitCode === 1 && ignored !== undefined))
    return { ...errors, count: Math.max(ignored ?? 0, errors.count) }
  throw programFailure(by, lastError === undefined ? run.words : `error: ${lastError}`, end)
}

/**
 * The script that a restore would run, for psql. An archive that cannot be read to its end throws, behind a part of the
 * script.
 * @throws as `pgRestore`
 */
export async function* archiveScript(
  program: Program,
  env: Environment,
  options: RestoreSelection & Pick<RestoreOptions, 'signal'>,
  input: ArchiveInput,
): AsyncGenerator<Buffer> {
  const { signal } = options
  signal.throwIfAborted()
  const args = ['--file=-', ...selectionArguments(options), ...fileArgument(input)]
  await using run = new ProgramRun(program, env, { args, input: !('file' in input), signal })
  let failure: { reason: unknown } | undefined
  const reading = ('file' in input ? Promise.resolve() : run.writeAll(input)).catch(
    async (reason: unknown) => {
      failure = { reason }
      await run[Symbol.asyncDispose]()
    },
  )
  try {
    for await (const piece of run.stdout) yield piece
    await reading
  } catch (error) {
    signal.throwIfAborted()
    throw failure ? failure.reason : error
  }
  if (failure) throw failure.reason
  const end = await run.ended()
  if (!end.isGood) throw programFailure('pg_restore', run.words, end)
}

const fileArgument = (input: ArchiveInput) => ('file' in input ? [input.file] : [])

function restoreArguments({ jobs, singleTransaction }: RestoreOptions): string[] {
  return [
    '--no-password',
    ...(jobs === undefined ? [] : [`--jobs=${jobs}`]),
    ...(singleTransaction ? ['--single-transaction'] : []),
  ]
}

function selectionArguments(selection: RestoreSelection): string[] {
  const { useList, role } = selection
  return [
    ...(selection.create ? ['--create'] : []),
    ...(selection.clean ? ['--clean', '--if-exists'] : []),
    ...(selection.noOwner ? ['--no-owner'] : []),
    ...(selection.noPrivileges ? ['--no-privileges'] : []),
    ...(selection.schemaOnly ? ['--schema-only'] : []),
    ...(selection.dataOnly ? ['--data-only'] : []),
    ...(useList === undefined ? [] : [`--use-list=${useList}`]),
    ...(role === undefined ? [] : [`--role=${role}`]),
  ]
}

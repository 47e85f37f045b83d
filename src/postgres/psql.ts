import { reasonOf } from '../errors.ts'
import { programFailure } from './client-errors.ts'
import { connectionArguments, type Environment, type Program } from './client-programs.ts'
import { ProgramRun } from './program-run.ts'
import type { RestoreErrors } from './restore-messages.ts'
import type { ConnectionOptions } from './server.ts'

export interface ScriptOptions {
  /** Where the script starts; it may connect to other databases. */
  connection: ConnectionOptions & { database: string }
  /** Ends at the first error; otherwise errors are counted, and it goes on. */
  stopOnError: boolean
  /** All or nothing; not for a script that connects to other databases, and only with `stopOnError`. */
  singleTransaction?: boolean
  signal: AbortSignal
  /** Called with each warning and each error, in one line. */
  onMessage: (text: string) => void
}

const MOST_SAMPLES = 20
/** What the server tells and goes on: success and warnings; under the name that it has in English, all others too. */
const NO_ERROR = /^0[01]/
const NO_ERROR_LEVEL = /^(?:DEBUG|LOG|INFO|NOTICE|WARNING)\d?$/

/**
 * Runs a script, as `pg_dumpall` or `pg_dump --format=plain` wrote it.
 *
 * A script is a program, and is to be trusted like one: psql's own commands in it (`\!`, `\o |...`, `\copy ... program`)
 * run anything on this host as the user who runs this, and its SQL runs on the server with the role's privileges. The
 * scripts of releases since August 2025 begin with `\restrict KEY`: until `\unrestrict` with the same random key psql
 * takes none of its own commands. That holds against names and values in the dumped database which were made to look
 * like commands (CVE-2025-8714, CVE-2025-8715), where the dump itself was made by a program one trusts; it does not hold
 * against somebody who could write the script, because the commands may be in front of it. An older psql says that it
 * does not know the command, which counts as an error here.
 *
 * @throws PgrecallError `connection`, also when the server is lost on the way; `failed` or `refused` at the first error
 * with `stopOnError`, and where psql ends before the script does; what the script's source throws, and then no statement is
 * run that had not come as a whole; the signal's reason
 * @see https://www.postgresql.org/docs/current/app-psql.html
 */
export async function runScript(
  program: Program,
  env: Environment,
  options: ScriptOptions,
  script: AsyncIterable<Buffer>,
): Promise<RestoreErrors> {
  const { connection, stopOnError, singleTransaction, signal, onMessage } = options
  const { args, secrets } = connectionArguments(connection)
  const errors: RestoreErrors = { count: 0, samples: [] }
  let firstError: string | undefined
  const onLine = (line: string) => {
    const told = messageIn(line)
    if (!told) return
    onMessage(told.text)
    if (!told.isError) return
    firstError ??= told.text
    errors.count++
    if (errors.samples.length < MOST_SAMPLES) errors.samples.push(told.text)
  }
  await using run = new ProgramRun(program, env, {
    args: [
      ...args,
      '--no-psqlrc',
      '--quiet',
      '--no-password',
      // Unlike its standard input without this, the file "-" has line numbers in messages.
      '--file=-',
      `--set=ON_ERROR_STOP=${stopOnError ? 'on' : 'off'}`,
      // With the codes of errors, because the server's words for "error" may be in any language.
      '--set=VERBOSITY=verbose',
      ...(singleTransaction ? ['--single-transaction'] : []),
    ],
    settings: secrets,
    input: true,
    signal,
    onLine,
  }).ignoreOutput()
  let isTaken = true
  for await (const piece of script) {
    isTaken = await run.write(piece)
    if (!isTaken) break
  }
  run.endInput()
  const end = await run.ended()
  if (end.isGood && isTaken) return errors
  const lost = end.exitCode === CONNECTION_LOST ? run.words : undefined
  const words = lost ?? (firstError && `error: ${firstError}`) ?? run.words
  throw programFailure(
    `psql in "${connection.database}"`,
    end.isGood ? 'error: it ended before the script did' : words,
    end,
  )
}

/** psql's EXIT_BADCONN. */
const CONNECTION_LOST = 2

/** Exported for tests: what a line tells, if it is the first one of a message. */
export function messageIn(line: string): { isError: boolean; text: string } | undefined {
  const [, number, said = ''] = /^psql:<stdin>:(\d+): (.*)/.exec(line) ?? []
  if (number === undefined) return undefined
  const [, level, code, fromServer] = /^([^:]+): +([0-9A-Z]{5}): (.*)/.exec(said) ?? []
  const own = /^(error|warning|fatal): +(.*)/.exec(said)
  const text = `line ${number}: ${reasonOf(fromServer ?? own?.[2] ?? said)}`
  if (code !== undefined) return { isError: !NO_ERROR.test(code) && !NO_ERROR_LEVEL.test(level!), text }
  return { isError: own !== null && own[1] !== 'warning', text }
}

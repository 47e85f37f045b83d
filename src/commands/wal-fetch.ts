import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { EXIT_CODES, PgrecallError, reasonOf } from '../errors.ts'
import { fetchWalFile, RECOVERY_RETRIES_MS, STANDBY_RETRIES_MS } from '../wal/fetch.ts'
import type { Run } from './context.ts'

/**
 * `restore_command`. PostgreSQL takes 1 to 125 for "there is no such WAL", which ends a recovery and opens the
 * database; so when there was no answer, a recovery gets a code above 125, which stops it. A standby would be killed by
 * that, and asks again after 1.
 * @see https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-PITR-RECOVERY
 */
export const run: Run = async ({ args }, context) => {
  const isStandby = runsInStandby(context.cwd)
  try {
    const from = await fetchWalFile({
      name: args[0]!,
      destination: resolve(context.cwd, args[1]!),
      cluster: context.cluster().name,
      repositories: context.repositories(),
      retryDelaysMs: isStandby ? STANDBY_RETRIES_MS : RECOVERY_RETRIES_MS,
      signal: context.signal,
      onRetry: (error, delayMs) =>
        context.events.emit('warning', { text: `${reasonOf(error)}; trying again in ${delayMs} ms` }),
    })
    return from === undefined
      ? { text: '', json: { found: false, file: args[0] }, exitCode: EXIT_CODES.absent.code }
      : { text: '', json: { found: true, file: args[0], repository: from } }
  } catch (error) {
    throw answerFor(error, isStandby)
  }
}

/** The same error under the kind whose exit code tells PostgreSQL what to do. */
export function answerFor(error: unknown, isStandby: boolean): PgrecallError {
  const hint = error instanceof PgrecallError ? error.hint : undefined
  const consequence = isStandby
    ? 'the standby will ask again'
    : 'recovery must stop here; start the server again when this is mended, and it will go on'
  return new PgrecallError(isStandby ? 'absent' : 'stopRecovery', reasonOf(error), {
    hint: hint ? `${hint}; ${consequence}` : consequence,
    cause: error,
  })
}

/** PostgreSQL runs restore_command in the data directory, where a file says what the server is to be. */
function runsInStandby(dataDirectory: string): boolean {
  if (existsSync(join(dataDirectory, 'standby.signal'))) return true
  try {
    return /^\s*standby_mode\s*=\s*'?(?:on|true|yes|1)/im.test(
      readFileSync(join(dataDirectory, 'recovery.conf'), 'utf8'),
    )
  } catch {
    return false
  }
}

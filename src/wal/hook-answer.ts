import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { EXIT_CODES, exitCodeOf } from '../errors.ts'

/**
 * The exit code of a failed `wal-fetch`. PostgreSQL takes 1 to 125 for "there is no such WAL", which ends a recovery and
 * opens the database; so whatever went wrong, a mistake in the configuration too, a recovery gets a code above 125, which
 * stops it. A standby would be killed by that, and asks again after 1.
 * @param dataDirectory where PostgreSQL runs restore_command
 * @see https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-PITR-RECOVERY
 */
export function fetchFailureCode(dataDirectory: string): number {
  return runsInStandby(dataDirectory) ? EXIT_CODES.absent.code : EXIT_CODES.stopRecovery.code
}

/** What follows from it, for the hint. */
export function fetchFailureHint(dataDirectory: string): string {
  return runsInStandby(dataDirectory)
    ? 'the standby will ask again'
    : 'a recovery must stop here; start the server again when this is mended, and it will go on'
}

/** The exit code of a failed `wal-push`: above 125, PostgreSQL would take its archiver down and start another. */
export function pushFailureCode(error: unknown): number {
  const code = exitCodeOf(error)
  return code > 125 ? EXIT_CODES.failed.code : code
}

/** A file in the data directory says that the server is to be a standby. */
export function runsInStandby(dataDirectory: string): boolean {
  if (existsSync(join(dataDirectory, 'standby.signal'))) return true
  try {
    const settings = readFileSync(join(dataDirectory, 'recovery.conf'), 'utf8')
    return /^\s*standby_mode\s*=\s*'?(?:on|true|yes|1)/im.test(settings)
  } catch {
    return false
  }
}

import { PgrecallError } from '../errors.ts'
import { findProgram } from '../postgres/client-programs.ts'
import { inDatabase } from '../postgres/in-database.ts'
import { type ArchiveInput, archiveScript, type RestoreSelection } from '../postgres/pg-restore.ts'
import { runScript } from '../postgres/psql.ts'
import type { RestoreErrors } from '../postgres/restore-messages.ts'
import { splitStatements } from '../postgres/sql-statements.ts'
import { withRoles } from './restore-roles.ts'
import type { RestoreRun } from './restore-run.ts'

/**
 * Gives a database that exists the settings, privileges and the comment that it had. `pg_restore` tells these only
 * together with the database's making, whatever is chosen; so its script is taken without that.
 *
 * @param selection chooses the entries of the privileges and the comment, and nothing else
 * @see src/bin/pg_dump/pg_backup_archiver.c: _tocEntryRequired
 */
export async function restoreProperties(
  run: RestoreRun,
  database: string,
  selection: RestoreSelection,
  input: ArchiveInput,
): Promise<RestoreErrors> {
  const { program, env, signal } = run
  const pieces = await Array.fromAsync(
    archiveScript(program, env, { ...selection, create: true, signal }, input),
    (piece) => Buffer.from(piece),
  )
  return runArchiveScript(run, database, propertyStatements(Buffer.concat(pieces)))
}

/** Restores an archive as a script, in which some roles stand for others. @param selection what of it, and how */
export function restoreWithRoles(
  run: RestoreRun,
  database: string,
  selection: RestoreSelection,
  input: ArchiveInput,
): Promise<RestoreErrors> {
  const { program, env, signal } = run
  return runArchiveScript(run, database, archiveScript(program, env, { ...selection, signal }, input))
}

async function runArchiveScript(
  { request, program, source, env, signal, events }: RestoreRun,
  database: string,
  script: AsyncIterable<Buffer>,
): Promise<RestoreErrors> {
  const psql = await findProgram('psql', program.majorVersion, env)
  if (!psql) throw new PgrecallError('refused', 'no psql was found beside pg_restore')
  const connection = { ...inDatabase(source.connection, database), database }
  const onMessage = (text: string) => events.emit('warning', { text: `database "${database}": ${text}` })
  const mapped = request.roles.size > 0 ? withRoles(script, request.roles) : script
  return runScript(psql, env, { connection, stopOnError: false, signal, onMessage }, mapped)
}

/** The statements about the database itself, in the script's own encoding, in which each byte is taken as it is. */
async function* propertyStatements(script: Buffer): AsyncGenerator<Buffer> {
  const isProperty = /^(?:SET client_encoding|ALTER|COMMENT|SECURITY|GRANT|REVOKE)\b/
  for (const { sql } of splitStatements(script.toString('latin1')))
    if (isProperty.test(sql)) yield Buffer.from(`${sql}\n`, 'latin1')
}

import { inDatabase } from '../postgres/in-database.ts'
import { type ArchiveInput, archiveScript, type RestoreSelection } from '../postgres/pg-restore.ts'
import { runScript } from '../postgres/psql.ts'
import type { RestoreErrors } from '../postgres/restore-messages.ts'
import { splitStatements } from '../postgres/sql-statements.ts'
import { saysTooMuch, withoutLaterSettings } from './restore-older-server.ts'
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
  return runArchiveScript(run, database, propertyStatements(Buffer.concat(pieces)), false)
}

/**
 * Restores an archive as a script, in which some roles stand for others.
 * @param selection what of it, and how
 * @param allOrNothing in one transaction. Otherwise errors are counted, and there must be no rows in it: behind a COPY that
 * was refused they would be taken for statements
 */
export function restoreAsScript(
  run: RestoreRun,
  database: string,
  selection: RestoreSelection,
  input: ArchiveInput,
  allOrNothing: boolean,
): Promise<RestoreErrors> {
  const { program, env, plan, signal } = run
  const script = archiveScript(program, env, { ...selection, signal }, input)
  const isOlder = saysTooMuch(program.majorVersion, plan.target.majorVersion)
  return runArchiveScript(run, database, isOlder ? withoutLaterSettings(script) : script, allOrNothing)
}

function runArchiveScript(
  { request, psql, source, env, signal, events }: RestoreRun,
  database: string,
  script: AsyncIterable<Buffer>,
  allOrNothing: boolean,
): Promise<RestoreErrors> {
  const connection = { ...inDatabase(source.connection, database), database }
  const onMessage = (text: string) => events.emit('warning', { text: `database "${database}": ${text}` })
  const mapped = request.roles.size > 0 ? withRoles(script, request.roles) : script
  const options = {
    connection,
    stopOnError: allOrNothing,
    singleTransaction: allOrNothing,
    signal,
    onMessage,
  }
  return runScript(psql!, env, options, mapped)
}

/** The statements about the database itself, in the script's own encoding, in which each byte is taken as it is. */
async function* propertyStatements(script: Buffer): AsyncGenerator<Buffer> {
  const isProperty = /^(?:SET client_encoding|ALTER|COMMENT|SECURITY|GRANT|REVOKE)\b/
  for (const { sql } of splitStatements(script.toString('latin1')))
    if (isProperty.test(sql)) yield Buffer.from(`${sql}\n`, 'latin1')
}

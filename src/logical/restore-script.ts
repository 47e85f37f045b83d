import { inDatabase } from '../postgres/in-database.ts'
import { runScript } from '../postgres/psql.ts'
import type { RestoreErrors } from '../postgres/restore-messages.ts'
import { quoteIdentifier, type Server } from '../postgres/server.ts'
import { withObject } from './restore-object.ts'
import type { RestoreRun } from './restore-run.ts'

/** Runs the one script of a backup that is not one of archives. Roles that exist are not made, but get what it sets. */
export async function restoreScript(run: RestoreRun, server: Server): Promise<RestoreErrors> {
  const { backup, source, program, events, signal } = run
  const object = backup.record.objects.find(({ kind }) => kind === 'script')!
  const roles = await server.query<{ name: string }>('SELECT rolname AS name FROM pg_roles')
  const connection = { ...inDatabase(source.connection, 'postgres'), database: 'postgres' }
  const onMessage = (text: string) => events.emit('warning', { text })
  return withObject(backup, object, signal, (plain) =>
    runScript(
      program,
      run.env,
      { connection, stopOnError: false, signal, onMessage },
      withoutRoles(
        plain,
        roles.map(({ name }) => name),
      ),
    ),
  )
}

/**
 * Leaves out the lines that make roles which exist; each is a line of its own, in front of all databases.
 * @see src/bin/pg_dump/pg_dumpall.c: dumpRoles
 */
export async function* withoutRoles(
  script: AsyncIterable<Buffer>,
  existing: readonly string[],
): AsyncGenerator<Buffer> {
  const lines = new Set(
    existing.flatMap((name) => [`CREATE ROLE ${name};`, `CREATE ROLE ${quoteIdentifier(name)};`]),
  )
  let rest = ''
  let isBehindRoles = false
  for await (const piece of script) {
    if (isBehindRoles) {
      yield piece
      continue
    }
    // Bytes stay what they are in either direction.
    const text = rest + piece.toString('latin1')
    const whole = text.slice(0, text.lastIndexOf('\n') + 1)
    const databases = whole.search(/^\\connect /m)
    const head = databases < 0 ? whole : whole.slice(0, databases)
    const kept = head.split('\n').filter((line) => !lines.has(Buffer.from(line, 'latin1').toString('utf8')))
    isBehindRoles = databases >= 0
    rest = isBehindRoles ? '' : text.slice(whole.length)
    yield Buffer.from(kept.join('\n') + (isBehindRoles ? text.slice(databases) : ''), 'latin1')
  }
  if (rest !== '') yield Buffer.from(rest, 'latin1')
}

import { inDatabase } from '../postgres/in-database.ts'
import { runScript } from '../postgres/psql.ts'
import { quoteIdentifier, type Server } from '../postgres/server.ts'
import { withObject } from './restore-object.ts'
import { saysTooMuch, withoutLaterSettings } from './restore-older-server.ts'
import { closedAtSignal, type RestoreRun } from './restore-run.ts'

/**
 * Runs the one script of a backup that is not one of archives, to its first error: psql would take the rows behind a COPY
 * that was refused for statements. Roles that exist are not made, but get what it sets.
 * @throws PgrecallError at the first error
 */
export async function restoreScript(run: RestoreRun, server: Server): Promise<void> {
  const { backup, source, program, plan, request, events, signal } = run
  const object = backup.record.objects.find(({ kind }) => kind === 'script')!
  const roles = await server.query<{ name: string }>('SELECT rolname AS name FROM pg_roles')
  const names = roles.map(({ name }) => name)
  const connection = { ...inDatabase(source.connection, 'postgres'), database: 'postgres' }
  const onMessage = (text: string) => events.emit('warning', { text })
  const isOlder = saysTooMuch(backup.record.dumpVersion, plan.target.majorVersion)
  await withObject(backup, object, signal, (plain) =>
    runScript(
      program,
      run.env,
      { connection, stopOnError: true, signal, onMessage },
      withoutRoles(isOlder ? withoutLaterSettings(plain) : plain, names),
    ),
  )
  if (request.analyze) await analyzeAll(run, server)
}

/** What a script made is not told by its record. */
async function analyzeAll({ source, signal }: RestoreRun, server: Server): Promise<void> {
  const databases = await server.query<{ name: string }>(
    'SELECT datname AS name FROM pg_database WHERE datallowconn AND NOT datistemplate',
  )
  for (const { name } of databases) {
    await using session = await source.connect(inDatabase(source.connection, name))
    using _closed = closedAtSignal(session, signal)
    await session.query('ANALYZE')
  }
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

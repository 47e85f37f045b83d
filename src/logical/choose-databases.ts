import { PgrecallError } from '../errors.ts'
import type { DumpableDatabase } from '../postgres/dumpable.ts'

export interface DatabaseChoice {
  /** Names, or patterns with `*` and `?`; all databases when there are none. */
  include: readonly string[]
  exclude: readonly string[]
}

/** What is dumped, and what somebody may miss. */
export interface ChosenDatabases {
  databases: DumpableDatabase[]
  warnings: string[]
}

/**
 * Which databases are dumped. Templates are left out unless they are named, and so are those to which nobody may connect.
 * Pure.
 * @param all every database of the server
 * @throws PgrecallError `absent` for a wanted name or pattern that no database has, `refused` for one that cannot be dumped
 */
export function chooseDatabases(
  all: readonly DumpableDatabase[],
  { include, exclude }: DatabaseChoice,
): ChosenDatabases {
  const isUnknown = (pattern: string) => !all.some(({ name }) => matches(name, pattern))
  const unknown = include.find(isUnknown)
  if (unknown !== undefined)
    throw new PgrecallError('absent', `no database is called "${unknown}"`, {
      hint: `there ${all.length === 1 ? 'is' : 'are'} ${all.map(({ name }) => `"${name}"`).join(', ')}; "*" and "?" stand for any characters`,
    })
  const isExcluded = ({ name }: DumpableDatabase) => exclude.some((pattern) => matches(name, pattern))
  const isNamed = ({ name }: DumpableDatabase) => include.includes(name)
  const isIncluded = (database: DumpableDatabase) =>
    isNamed(database) ||
    (!database.isTemplate &&
      (include.length === 0 || include.some((pattern) => matches(database.name, pattern))))
  const wanted = all.filter((database) => isIncluded(database) && !isExcluded(database))
  const isClosed = ({ allowsConnections, isInvalid }: DumpableDatabase) => !allowsConnections || isInvalid
  const closed = wanted.filter(isClosed)
  const databases = wanted.filter((database) => !isClosed(database))
  const unusable = closed.find(isNamed) ?? databases.find(({ mayConnect }) => !mayConnect)
  if (unusable) throw unusableError(unusable)
  if (databases.length === 0)
    throw new PgrecallError('refused', 'no database is left to dump', {
      hint: 'look at --database and --exclude-database; templates are dumped only where they are named',
    })
  return {
    databases,
    warnings: [
      ...exclude
        .filter(isUnknown)
        .map((pattern) => `no database is called "${pattern}", so there was none to leave out`),
      ...closed.map(({ name, isInvalid }) =>
        isInvalid
          ? `database "${name}" is what an interrupted DROP DATABASE has left, and is not in this backup`
          : `database "${name}" allows no connections, and is not in this backup`,
      ),
    ],
  }
}

function unusableError({ name, allowsConnections, isInvalid }: DumpableDatabase): PgrecallError {
  if (isInvalid)
    return new PgrecallError(
      'refused',
      `database "${name}" is what an interrupted DROP DATABASE has left, so it cannot be dumped`,
      { hint: 'drop it, or leave it out' },
    )
  return allowsConnections
    ? new PgrecallError('refused', `this role may not connect to database "${name}"`, {
        hint: 'GRANT CONNECT on it, or leave it out with --exclude-database',
      })
    : new PgrecallError('refused', `database "${name}" allows no connections, so it cannot be dumped`, {
        hint: 'ALTER DATABASE ... ALLOW_CONNECTIONS true, or leave it out',
      })
}

/** `*` stands for any characters, `?` for one; a name is also a pattern. */
export function matches(name: string, pattern: string): boolean {
  const escaped = pattern.replace(/[.+^${}()|[\]\\]/g, '\\$&')
  return (
    name === pattern || new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`, 's').test(name)
  )
}

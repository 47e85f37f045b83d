import { PgrecallError, reasonOf } from '../errors.ts'
import { quoteIdentifier, type Server } from '../postgres/server.ts'
import { type Statement, splitStatements } from '../postgres/sql-statements.ts'
import { mapRoles, type RoleMap } from './restore-roles.ts'
import type { RestoreTarget } from './restore-target.ts'

/** What is made of roles, tablespaces and privileges on settings. */
export interface GlobalsPlan {
  statements: Statement[]
  madeRoles: string[]
  madeTablespaces: { name: string; location: string }[]
  /** Those that exist, and are left as they are, or changed to what the backup says. */
  existing: string[]
  changesExisting: boolean
}

/**
 * Which statements of a script of `pg_dumpall --globals-only` are run. Pure.
 *
 * What exists is left as it is: also, no membership is given to a role that exists. With `clean` it is brought to the
 * backup's state, but never dropped: a role owns things in databases that have no part in this.
 * @param script may hold passwords, and so may the result
 * @param tablespaces new folders, by the name of the tablespace or its old folder
 * @param map roles that stand for others, which are not made then
 * @throws PgrecallError `damaged`
 */
export function planGlobals(
  script: string,
  target: Pick<RestoreTarget, 'roles' | 'tablespaces'>,
  clean: boolean,
  tablespaces: ReadonlyMap<string, string>,
  map: RoleMap,
): GlobalsPlan {
  const plan: GlobalsPlan = {
    statements: [],
    madeRoles: [],
    madeTablespaces: [],
    existing: [],
    changesExisting: clean,
  }
  const roles = new Set(target.roles)
  const spaces = new Set(target.tablespaces)
  for (const statement of splitStatements(script)) {
    const { kind, names } = statement
    const [name = '', member = ''] = names
    const ofTablespace = kind.endsWith('-tablespace')
    const exists = ofTablespace ? spaces.has(name) : roles.has(kind === 'grant-role' ? member : name)
    if (isAboutRole(statement, map)) continue
    if (kind === 'meta' || kind === 'drop-role' || kind === 'drop-tablespace') continue
    if (kind === 'create-role' || kind === 'create-tablespace') {
      if (exists) plan.existing.push(name)
      else if (ofTablespace) {
        const moved = withFolder({ ...statement, sql: mapRoles(statement.sql, map) }, tablespaces)
        plan.madeTablespaces.push({ name, location: moved.location })
        plan.statements.push(moved.statement)
      } else {
        plan.madeRoles.push(name)
        plan.statements.push(statement)
      }
    } else if (!exists || clean || !ABOUT_ONE.has(kind))
      plan.statements.push({ ...statement, sql: mapRoles(statement.sql, map) })
  }
  return plan
}

/**
 * Whether a statement makes, changes or describes a role that another one stands for, or its memberships; not those that it
 * only has granted.
 */
const isAboutRole = ({ kind, names }: Statement, map: RoleMap) =>
  kind.endsWith('-role') && names.slice(0, kind === 'grant-role' ? 2 : 1).some((name) => map.has(name))

/** Names of the roles that a script of `pg_dumpall --globals-only` makes: all of the cluster. */
export const rolesIn = (script: string): string[] =>
  splitStatements(script).flatMap(({ kind, names }) => (kind === 'create-role' ? names : []))

/**
 * A name that is not the backup's would have no effect, in silence.
 * @throws PgrecallError `refused`
 */
export function requireMapped(script: string, tablespaces: ReadonlyMap<string, string>, map: RoleMap): void {
  const roles = rolesIn(script)
  const spaces = splitStatements(script)
    .filter(({ kind }) => kind === 'create-tablespace')
    .flatMap((statement) => [statement.names[0]!, folderOf(statement).folder])
  const refuse = (what: string, option: string, known: string[]) => {
    throw new PgrecallError('refused', `the backup has no ${what}, which ${option} names`, {
      hint: `it has ${known.map((name) => `"${name}"`).join(', ') || 'none'}`,
    })
  }
  const role = [...map.keys()].find((name) => !roles.includes(name))
  if (role !== undefined) refuse(`role "${role}"`, '--map-role', roles)
  const space = [...tablespaces.keys()].find((name) => !spaces.includes(name))
  if (space !== undefined) refuse(`tablespace "${space}"`, '--tablespace', spaces)
}

/** Statements that change something which has a name, other than settings of the session and the server. */
const ABOUT_ONE = new Set<Statement['kind']>([
  'alter-role',
  'configure-role',
  'describe-role',
  'grant-role',
  'alter-tablespace',
  'describe-tablespace',
  'grant-tablespace',
])

function withFolder(
  statement: Statement,
  tablespaces: ReadonlyMap<string, string>,
): { statement: Statement; location: string } {
  const { before, folder } = folderOf(statement)
  const location = tablespaces.get(statement.names[0]!) ?? tablespaces.get(folder)
  if (location === undefined) return { statement, location: folder }
  return { statement: { ...statement, sql: `${before}'${location.replaceAll("'", "''")}';` }, location }
}

/** Where a tablespace lies, and the statement up to there. */
function folderOf({ sql }: Statement): { before: string; folder: string } {
  const [, before = sql, quoted = "''"] = /^(.*\sLOCATION\s+)('(?:[^']|'')*')\s*;$/s.exec(sql) ?? []
  return { before, folder: quoted.slice(1, -1).replaceAll("''", "'") }
}

/** Errors of statements, without the statements, which may hold passwords. */
export interface GlobalsErrors {
  count: number
  samples: string[]
}

/**
 * Runs them one by one; what the server refuses is counted.
 * @param signal its session is closed at this
 * @throws PgrecallError `failed` where a tablespace cannot be made, without which nothing further makes sense
 */
export async function restoreGlobals(
  server: Server,
  { statements, madeTablespaces }: GlobalsPlan,
  signal: AbortSignal,
  onError: (text: string) => void,
): Promise<GlobalsErrors> {
  const errors: GlobalsErrors = { count: 0, samples: [] }
  for (const { sql, kind, names } of statements) {
    try {
      await server.query(sql)
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof PgrecallError) throw error
      if (kind === 'create-tablespace') throw noTablespace(names[0]!, madeTablespaces, error)
      const text = `${kind.replace('-', ' ')} ${names.map(quoteIdentifier).join(', ')}: ${reasonOf(error)}`
      errors.count++
      errors.samples.push(text)
      onError(text)
    }
  }
  return errors
}

function noTablespace(name: string, made: GlobalsPlan['madeTablespaces'], cause: unknown): PgrecallError {
  const location = made.find((space) => space.name === name)?.location
  return new PgrecallError(
    'failed',
    `tablespace "${name}" cannot be made in ${location}: ${reasonOf(cause)}`,
    {
      hint: `make that folder, empty and the server's own, or name another one with --tablespace ${name}=/new/folder`,
      cause,
    },
  )
}

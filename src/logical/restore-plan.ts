import type { DumpedDatabase, LogicalObject, LogicalRecord } from '../catalog/logical-record.ts'
import { selectionText } from '../catalog/selection-text.ts'
import { PgrecallError } from '../errors.ts'
import { quoteIdentifier } from '../postgres/server.ts'
import { matches } from './choose-databases.ts'
import { isPartial } from './dump-selection.ts'
import type { GlobalsPlan } from './restore-globals.ts'
import { isChosen, type LogicalRestoreRequest } from './restore-request.ts'
import type { RestoreTarget, TargetDatabase } from './restore-target.ts'

/** How a database comes to be where its dump is restored. */
export type Way =
  /** By `pg_restore --create`, as it was. */
  | 'create'
  /** By us, with its owner, encoding and locale, since it gets another name or only parts. */
  | 'make'
  | 'existing'

export interface DatabasePlan {
  /** In the backup, and in the target. */
  name: string
  into: string
  way: Way
  /** Drops the database first. */
  dropsDatabase: boolean
  /** In one transaction, since it has data: a part of a dump could spoil what is there. */
  allOrNothing: boolean
  /** Whether its settings, privileges and comment are applied, which `create` does in any case. */
  properties: boolean
  analyze: boolean
  dumped: DumpedDatabase
  object: LogicalObject
  /** Schemas that are there. */
  schemas: string[]
}

export interface LogicalRestorePlan {
  id: string
  form: LogicalRecord['form']
  repository: string
  target: { majorVersion: number; versionText: string }
  globals: GlobalsPlan | undefined
  databases: DatabasePlan[]
  warnings: string[]
}

/** Every cluster has these, and their own properties are the cluster's. */
const ALWAYS_THERE = ['postgres', 'template1']

/**
 * The dumps that are asked for.
 * @throws PgrecallError `absent` for a name or pattern that no dump has, `usage` for several databases into one
 */
export function chooseDumps(
  { databases, id }: LogicalRecord,
  { databases: { include, exclude }, into }: LogicalRestoreRequest,
): DumpedDatabase[] {
  for (const pattern of [...include, ...exclude]) {
    if (databases.some(({ name }) => matches(name, pattern))) continue
    throw new PgrecallError('absent', `backup ${id} has no database "${pattern}"`, {
      hint: `it has ${databases.map(({ name }) => `"${name}"`).join(', ')}`,
    })
  }
  const isOneOf = (name: string, patterns: readonly string[]) =>
    patterns.some((pattern) => matches(name, pattern))
  const chosen = databases.filter(
    ({ name }) => (include.length === 0 || isOneOf(name, include)) && !isOneOf(name, exclude),
  )
  if (chosen.length === 0) throw new PgrecallError('usage', 'no database is left to restore')
  if (into !== undefined && chosen.length > 1)
    throw new PgrecallError('usage', `--into takes one database, and these are ${chosen.length}`, {
      hint: 'say which one with --database',
    })
  return chosen
}

/**
 * What is made, what is there, and what stands in the way. Pure.
 * @throws PgrecallError `refused` where something stands in the way
 */
export function planRestore(
  record: LogicalRecord,
  repository: string,
  request: LogicalRestoreRequest,
  target: RestoreTarget,
  globals: GlobalsPlan | undefined,
): LogicalRestorePlan {
  requireVersion(record, target)
  const databases =
    record.form === 'script'
      ? []
      : chooseDumps(record, request).map((dumped) => planDatabase(record, request, target, dumped))
  if (record.form === 'script') requireEmpty(request, target)
  requireRoles(request, target, globals)
  return {
    id: record.id,
    form: record.form,
    repository,
    target: { majorVersion: target.majorVersion, versionText: target.versionText },
    globals,
    databases,
    warnings: warningsOf(record, request, target, globals, databases),
  }
}

function planDatabase(
  record: LogicalRecord,
  request: LogicalRestoreRequest,
  target: RestoreTarget,
  dumped: DumpedDatabase,
): DatabasePlan {
  const { create, clean, choice, analyze, into = dumped.name } = request
  const there = target.databases.find(({ name }) => name === into)
  if (there) requireUsable(there, request)
  const isWhole = !isChosen(choice) && choice.only !== 'data'
  if (there && !(create && clean)) requireWelcome(request, there.hasData, into)
  if (there?.hasData && create && clean && !request.force)
    throw new PgrecallError('refused', `database "${into}" has data, and would be dropped`, {
      hint: 'add --force to drop it and make it anew, or restore beside it with --into NAME',
    })
  if (!there && choice.only === 'data')
    throw new PgrecallError('refused', `there is no database "${into}", and --data-only needs its tables`, {
      hint: 'restore with --schema-only first, or leave --data-only out',
    })
  const makes = !there || create
  const isSame = isWhole && into === dumped.name
  const isMadeByArchive =
    isSame && request.roles.size === 0 && request.role === undefined && knowsDatabaseStatement(record, target)
  const way: Way = !makes ? 'existing' : isMadeByArchive ? 'create' : 'make'
  const allOrNothing = way === 'existing' && there!.hasData
  if (allOrNothing && request.jobs > 1)
    throw new PgrecallError('refused', `database "${into}" has data, so it is restored in one transaction`, {
      hint: 'leave --jobs out: a transaction takes one session',
    })
  // What every cluster has gets the cluster's settings, where it is not in use yet.
  const isNew = ALWAYS_THERE.includes(into) && !there?.hasData
  return {
    name: dumped.name,
    into,
    way,
    dropsDatabase: makes && there !== undefined,
    allOrNothing,
    properties: isSame && (way === 'make' || (way === 'existing' && (clean || isNew))),
    analyze:
      analyze && choice.only !== 'schema' && (choice.only === 'data' || !dumped.contents['STATISTICS DATA']),
    dumped,
    object: record.objects.find(({ kind, database }) => kind === 'dump' && database === dumped.oid)!,
    schemas: makes ? ['public'] : there!.schemas,
  }
}

/** From 15 on archives name the provider of a database's locale, which no server before it knows. */
const FIRST_WITH_PROVIDER = 15

/** Whether the server understands how the archive makes its database. @see src/bin/pg_dump/pg_dump.c, dumpDatabase */
function knowsDatabaseStatement({ dumpVersion }: LogicalRecord, { majorVersion }: RestoreTarget): boolean {
  return dumpVersion < FIRST_WITH_PROVIDER || majorVersion >= FIRST_WITH_PROVIDER
}

/** Whatever is asked for with `force`. */
function requireUsable(
  { name, allowsConnections }: TargetDatabase,
  { create, clean }: LogicalRestoreRequest,
): void {
  if (create && clean && name === 'template1')
    throw new PgrecallError('refused', 'template1 cannot be dropped: new databases are made from it', {
      hint: 'leave --create out',
    })
  if (allowsConnections || create) return
  throw new PgrecallError('refused', `database "${name}" allows no connections`, {
    hint: 'ALTER DATABASE ... ALLOW_CONNECTIONS true, or name another one with --into',
  })
}

function requireWelcome({ create, force }: LogicalRestoreRequest, hasData: boolean, into: string): void {
  if (create)
    throw new PgrecallError('refused', `there is a database "${into}" already`, {
      hint: 'add --clean to drop it, leave --create out to restore into it, or name another one with --into',
    })
  if (!hasData || force) return
  throw new PgrecallError('refused', `database "${into}" has data`, {
    hint: 'restore beside it with --database NAME --into OTHER, or add --force: all of it is added, or nothing where something of it exists; with --clean that is dropped first',
  })
}

function requireEmpty({ force }: LogicalRestoreRequest, { databases }: RestoreTarget): void {
  const full = databases.find(({ name, hasData }) => hasData && name !== 'template0')
  if (!full || force) return
  throw new PgrecallError('refused', `the server has data already, in database "${full.name}"`, {
    hint: 'restore into an empty server, or add --force: roles get what the script says, and it ends at the first thing that exists',
  })
}

function requireRoles(
  { roles, role }: LogicalRestoreRequest,
  target: RestoreTarget,
  globals: GlobalsPlan | undefined,
): void {
  const known = [...target.roles, ...(globals?.madeRoles ?? [])]
  const require = (name: string, option: string) => {
    if (known.includes(name)) return
    throw new PgrecallError('refused', `the server has no role "${name}", which ${option} names`, {
      hint: `CREATE ROLE ${quoteIdentifier(name)}, or name another one`,
    })
  }
  for (const name of roles.values()) require(name, '--map-role')
  if (role !== undefined) require(role, '--role')
}

function requireVersion({ postgres }: LogicalRecord, { majorVersion, versionText }: RestoreTarget): void {
  if (majorVersion >= Math.floor(postgres.version / 10_000)) return
  throw new PgrecallError(
    'refused',
    `the server is PostgreSQL ${versionText}, older than the one that was dumped, ${postgres.text}`,
    { hint: 'restore into a server of the same or a later major version' },
  )
}

function warningsOf(
  { selection, databases: dumped }: LogicalRecord,
  { noOwner, choice, roles: map }: LogicalRestoreRequest,
  target: RestoreTarget,
  globals: GlobalsPlan | undefined,
  databases: readonly DatabasePlan[],
): string[] {
  const roles = [...target.roles, ...(globals?.madeRoles ?? [])]
  const missing = new Set(
    dumped.map(({ owner }) => owner).filter((owner) => !map.has(owner) && !roles.includes(owner)),
  )
  const otherEncoding = databases.flatMap(({ way, into, dumped: { encoding } }) => {
    const there = target.databases.find(({ name }) => name === into)
    return way === 'existing' && there && there.encoding !== encoding
      ? [
          `database "${into}" is in ${there.encoding}, the dump in ${encoding}: it is converted where that goes`,
        ]
      : []
  })
  return [
    ...(selection && (isPartial(selection) || selection.excludeTableData)
      ? [
          `the backup has only what was chosen (${selectionText(selection)}): what that depends on may be missing`,
        ]
      : []),
    ...(isChosen(choice) ? ['only parts are restored: what they depend on has to be there already'] : []),
    ...(missing.size > 0 && !noOwner && databases.length > 0
      ? [
          `the server has no role ${[...missing].map((name) => `"${name}"`).join(', ')}, who owns what is restored; see --no-owner`,
        ]
      : []),
    ...otherEncoding,
  ]
}

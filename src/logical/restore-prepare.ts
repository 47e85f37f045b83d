import { readLogicalRecord } from '../catalog/logical-record.ts'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { findProgram, type Program } from '../postgres/client-programs.ts'
import type { Server } from '../postgres/server.ts'
import { RecordedFingerprints } from './fingerprint-object.ts'
import type { LogicalSource } from './logical-run.ts'
import { planGlobals, requireMapped, rolesIn } from './restore-globals.ts'
import { type StoredBackup, withObject } from './restore-object.ts'
import { saysTooMuch } from './restore-older-server.ts'
import { chooseDumps, type LogicalRestorePlan, planRestore } from './restore-plan.ts'
import { isChosen, type LogicalRestoreRequest } from './restore-request.ts'
import { lookAtTarget } from './restore-target.ts'
import { requireRoom } from './staging.ts'

export interface PrepareContext {
  repositories: readonly Repository[]
  events: Events
  signal: AbortSignal
}

/** A restore of which all is known that can be known before something is changed. */
export interface PreparedRestore {
  request: LogicalRestoreRequest
  plan: LogicalRestorePlan
  backup: StoredBackup
  /** Roles of the backup and of the target, by which owners in lists are told from names. */
  owners: string[]
  /** `pg_restore`, or `psql` for a script. */
  program: Program
  /** For what of an archive is run as a script; where that may be needed. */
  psql: Program | undefined
  /** What is compared with; where that is asked for. */
  fingerprints: RecordedFingerprints | undefined
}

/**
 * Works out what a restore has to do; changes nothing.
 * @param server of the target, in any database
 * @throws PgrecallError `absent`, `usage`, `refused`; `damaged` where the backup cannot be read
 */
export async function prepareLogicalRestore(
  request: LogicalRestoreRequest,
  server: Server,
  source: LogicalSource,
  context: PrepareContext,
): Promise<PreparedRestore> {
  const backup = await findBackup(request, context)
  const { record, repository } = backup
  const isScript = record.form === 'script'
  if (isScript) requireWholeRequest(request)
  const dumps = isScript ? [] : chooseDumps(record, request)
  const fingerprints = request.compare
    ? await RecordedFingerprints.read(backup, new Set(dumps.map(({ name }) => name)), context.signal)
    : undefined
  const names = request.into === undefined ? dumps.map(({ name }) => name) : [request.into]
  const target = await lookAtTarget(server, source, (name) => isScript || names.includes(name))
  const script = await readGlobals(backup, context.signal)
  if (script !== undefined) requireMapped(script, request.tablespaces, request.roles)
  const globals =
    script !== undefined && request.globals
      ? planGlobals(script, target, request.clean, request.tablespaces, request.roles)
      : undefined
  if (request.tablespaces.size > 0 && !globals)
    throw new PgrecallError('usage', '--tablespace has no part in a restore without roles and tablespaces', {
      hint: 'leave it out, or restore the whole backup',
    })
  const plan = planRestore(record, repository.name, request, target, globals)
  await requireStaging(request, plan)
  const { dumpVersion } = record
  const program = await programFor(isScript ? 'psql' : 'pg_restore', dumpVersion, target, source)
  const needsPsql =
    request.roles.size > 0 ||
    plan.databases.some(
      ({ properties, allOrNothing }) =>
        properties || (allOrNothing && saysTooMuch(program.majorVersion, target.majorVersion)),
    )
  const psql = needsPsql ? await programFor('psql', program.majorVersion, target, source) : undefined
  const owners = [...target.roles, ...rolesIn(script ?? ''), ...record.databases.map(({ owner }) => owner)]
  return { request, plan, backup, owners, program, psql, fingerprints }
}

async function findBackup(
  { cluster, id }: LogicalRestoreRequest,
  { repositories, events, signal }: PrepareContext,
): Promise<StoredBackup> {
  const failures: unknown[] = []
  // What an optional one lacks is nothing unusual.
  for (const repository of repositories.toSorted((a, b) => Number(b.required) - Number(a.required))) {
    try {
      const record = await readLogicalRecord(repository.storage, cluster, id)
      if (record) return { repository, record }
    } catch (error) {
      signal.throwIfAborted()
      failures.push(error)
      if (repositories.length > 1)
        events.emit('warning', { text: `not from repository "${repository.name}": ${reasonOf(error)}` })
    }
  }
  throw (
    failures[0] ??
    new PgrecallError('absent', `cluster "${cluster}" has no backup ${id}`, {
      hint: '"pgrecall list" shows what there is',
    })
  )
}

/** The statements about roles and tablespaces; undefined where the backup has none. */
async function readGlobals(backup: StoredBackup, signal: AbortSignal): Promise<string | undefined> {
  const object = backup.record.objects.find(({ kind }) => kind === 'globals')
  if (!object) return undefined
  return withObject(backup, object, signal, async (plain) => {
    const copies: Buffer[] = []
    for await (const piece of plain) copies.push(Buffer.from(piece))
    return Buffer.concat(copies).toString('utf8')
  })
}

/** The one of the target's version says what that server understands; any that can read the archive will do. */
async function programFor(
  name: 'pg_restore' | 'psql',
  dumpVersion: number,
  target: { majorVersion: number },
  { env }: LogicalSource,
): Promise<Program> {
  const program =
    (await findProgram(name, Math.max(dumpVersion, target.majorVersion), env)) ??
    (await findProgram(name, dumpVersion, env))
  if (program) return program
  throw new PgrecallError('refused', `no ${name} of PostgreSQL ${dumpVersion} or later was found`, {
    hint: `install PostgreSQL's client programs (postgresql-client-${dumpVersion}), or put their folder on PATH`,
  })
}

/** A place with room for the largest dump, where dumps have to be put down. */
async function requireStaging(
  { jobs, staging }: LogicalRestoreRequest,
  { databases }: LogicalRestorePlan,
): Promise<void> {
  const folder = databases.find(({ object }) => object.archive === 'directory')
  if (staging === undefined) {
    if (jobs === 1 && !folder) return
    throw new PgrecallError(
      'usage',
      folder
        ? `the dump of database "${folder.name}" is a folder, which has to be unpacked to be restored`
        : 'several sessions can restore a dump only from a file, not as it streams by',
      { hint: 'name a folder with room for the largest dump: --staging DIR' },
    )
  }
  const staged = databases.filter(({ object }) => jobs > 1 || object.archive === 'directory')
  const bytes = staged.map(({ object }) => object.plainBytes ?? object.bytes)
  await requireRoom(staging, Math.max(0, ...bytes), 'the largest dump')
}

function requireWholeRequest(request: LogicalRestoreRequest): void {
  const { databases, into, choice, create, clean, noOwner, noPrivileges, role, roles, jobs } = request
  const { globals, tablespaces, staging } = request
  const isWhole =
    databases.include.length + databases.exclude.length === 0 && !isChosen(choice) && !choice.only && globals
  const isPlain =
    into === undefined &&
    !(create || clean || noOwner || noPrivileges) &&
    role === undefined &&
    roles.size + tablespaces.size === 0
  if (isWhole && isPlain && jobs === 1 && staging === undefined) return
  throw new PgrecallError(
    'usage',
    `backup ${request.id} is one script, which is run as it is or not at all`,
    {
      hint: 'restore it whole, with --force into a server that has data',
    },
  )
}

import { createWriteStream } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { DumpedDatabase } from '../catalog/logical-record.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { inDatabase } from '../postgres/in-database.ts'
import { type ArchiveInput, pgRestore, type RestoreOptions } from '../postgres/pg-restore.ts'
import type { RestoreErrors } from '../postgres/restore-messages.ts'
import { quoteIdentifier, type Server } from '../postgres/server.ts'
import { restoreProperties, restoreWithRoles } from './restore-as-script.ts'
import { chooseEntries, databaseEntries, type LinkedEntry, linkedEntries } from './restore-entries.ts'
import { unpackFolder } from './restore-folder.ts'
import { startOf, withObject } from './restore-object.ts'
import type { DatabasePlan } from './restore-plan.ts'
import { isChosen } from './restore-request.ts'
import type { RestoreRun } from './restore-run.ts'

/** What became of one database. */
export interface RestoredDatabase {
  name: string
  into: string
  errors: RestoreErrors
  /** What belongs to chosen tables, and is not there. */
  leftOut: string[]
}

/**
 * Restores one dump. What the server refuses is counted.
 * @param server of the target, in any database
 * @throws PgrecallError that says in which state the database is
 */
export async function restoreDatabase(
  run: RestoreRun,
  server: Server,
  plan: DatabasePlan,
): Promise<RestoredDatabase> {
  // The list first: what cannot be read at all changes nothing.
  const entries = await listOf(run, plan)
  const chosen = choiceOf(run, plan, entries)
  try {
    if (plan.way === 'make') await makeDatabase(run, server, plan)
    const errors = await load(run, plan, chosen?.ids)
    if (plan.properties) addErrors(errors, await applyProperties(run, plan, entries))
    if (plan.analyze) await analyze(run, plan, entries, chosen?.ids)
    return { name: plan.name, into: plan.into, errors, leftOut: chosen?.leftOut ?? [] }
  } catch (error) {
    run.signal.throwIfAborted()
    throw halfRestored(plan, error)
  } finally {
    if (run.staging) await rm(stagedPath(run, plan), { recursive: true, force: true })
  }
}

/** Where a dump is put down, a file or a folder; one at a time. */
const stagedPath = ({ staging }: RestoreRun, { dumped }: DatabasePlan) => staging!.file(`${dumped.oid}.dump`)

/** Of an archive in one file; a folder is known when it is unpacked. */
async function listOf(run: RestoreRun, plan: DatabasePlan): Promise<LinkedEntry[]> {
  const { backup, program, source, signal } = run
  if (plan.object.archive !== 'directory')
    return linkedEntries(program, source.env, startOf(backup, plan.object, signal), signal)
  const folder = stagedPath(run, plan)
  await withObject(backup, plan.object, signal, (plain) => unpackFolder(plain, folder))
  return linkedEntries(program, source.env, { file: folder }, signal)
}

function choiceOf({ request: { choice } }: RestoreRun, plan: DatabasePlan, entries: LinkedEntry[]) {
  return isChosen(choice) ? chooseEntries(entries, choice, plan.schemas) : undefined
}

/** With the encoding and the locale of the record, from the one template that takes any. */
async function makeDatabase(run: RestoreRun, server: Server, plan: DatabasePlan): Promise<void> {
  const { into, dumped } = plan
  if (plan.dropsDatabase) await server.query(`DROP DATABASE ${quoteIdentifier(into)}`)
  const role = run.request.roles.get(dumped.owner) ?? dumped.owner
  const found = await server.query('SELECT FROM pg_roles WHERE rolname = $1', [role])
  const owner = run.request.noOwner || found.length === 0 ? '' : ` OWNER ${quoteIdentifier(role)}`
  await server.query(`CREATE DATABASE ${quoteIdentifier(into)} TEMPLATE template0${owner}${localeOf(dumped)}`)
}

/** @see https://www.postgresql.org/docs/current/sql-createdatabase.html */
function localeOf({ encoding, collate, ctype, provider, locale }: DumpedDatabase): string {
  const own = { libc: '', icu: 'ICU_LOCALE', builtin: 'BUILTIN_LOCALE' }[provider]
  const name =
    own === '' || locale === undefined ? '' : ` LOCALE_PROVIDER ${provider} ${own} ${literal(locale)}`
  return ` ENCODING ${literal(encoding)} LC_COLLATE ${literal(collate)} LC_CTYPE ${literal(ctype)}${name}`
}

const literal = (text: string) => `'${text.replaceAll("'", "''")}'`

async function load(run: RestoreRun, plan: DatabasePlan, ids: number[] | undefined): Promise<RestoreErrors> {
  const { request, backup, signal } = run
  const { only } = request.choice
  const useList = ids && (await listFile(run, plan, ids))
  const isCreated = plan.way === 'create'
  // A database cannot be dropped by somebody who is in it.
  const door = plan.into === 'postgres' ? 'template1' : 'postgres'
  const options = optionsFor(run, isCreated ? door : plan.into, {
    create: isCreated,
    clean: isCreated ? plan.dropsDatabase : plan.way === 'existing' && request.clean,
    noOwner: request.noOwner,
    noPrivileges: request.noPrivileges,
    ...(only === 'schema' && { schemaOnly: true }),
    ...(only === 'data' && { dataOnly: true }),
    ...(request.role !== undefined && { role: request.role }),
    ...(useList !== undefined && { useList }),
  })
  const restore = (input: ArchiveInput, jobs?: number) =>
    request.roles.size > 0
      ? restoreWithRoles(run, plan.into, options, input)
      : pgRestore(run.program, run.env, { ...options, ...(jobs !== undefined && { jobs }) }, input)
  if (plan.object.archive === 'directory') return restore({ file: stagedPath(run, plan) }, request.jobs)
  if (request.jobs === 1) return withObject(backup, plan.object, signal, (plain) => restore(plain))
  const file = stagedPath(run, plan)
  await withObject(backup, plan.object, signal, (plain) =>
    pipeline(Readable.from(copies(plain)), createWriteStream(file, { mode: 0o600 })),
  )
  return restore({ file }, request.jobs)
}

/** A piece may be reused when the next one is asked for. */
async function* copies(pieces: AsyncIterable<Buffer>) {
  for await (const piece of pieces) yield Buffer.from(piece)
}

/** Last of all: a setting such as `default_transaction_read_only` would be in the way of the rest. */
async function applyProperties(
  run: RestoreRun,
  plan: DatabasePlan,
  entries: LinkedEntry[],
): Promise<RestoreErrors> {
  const { noOwner, noPrivileges } = run.request
  const useList = await listFile(run, plan, databaseEntries(entries))
  const input =
    plan.object.archive === 'directory'
      ? { file: stagedPath(run, plan) }
      : startOf(run.backup, plan.object, run.signal)
  return restoreProperties(run, plan.into, { noOwner, noPrivileges, useList }, input)
}

function optionsFor(
  { source, signal, events }: RestoreRun,
  database: string,
  options: Partial<RestoreOptions>,
): RestoreOptions {
  return {
    ...options,
    connection: { ...inDatabase(source.connection, database), database },
    signal,
    onMessage: (text) => events.emit('warning', { text: `database "${database}": ${text}` }),
  }
}

async function listFile(run: RestoreRun, plan: DatabasePlan, ids: number[]): Promise<string> {
  const file = run.staging!.file(`${plan.dumped.oid}.list`)
  await writeFile(file, ids.map((id) => `${id}\n`).join(''))
  return file
}

/** Of a database that got only parts, the tables that got rows; the others have theirs. */
async function analyze(
  { source }: RestoreRun,
  plan: DatabasePlan,
  entries: LinkedEntry[],
  ids: number[] | undefined,
): Promise<void> {
  await using session = await source.connect(inDatabase(source.connection, plan.into))
  if (!ids) {
    await session.query('ANALYZE')
    return
  }
  for (const { type, schema, name, dumpId } of entries) {
    if (type !== 'TABLE DATA' || !ids.includes(dumpId)) continue
    const table = `${quoteIdentifier(schema!)}.${quoteIdentifier(name)}`
    const [found] = await session.query<{ is: boolean }>('SELECT to_regclass($1) IS NOT NULL AS is', [table])
    if (found?.is) await session.query(`ANALYZE ${table}`)
  }
}

function addErrors(errors: RestoreErrors, more: RestoreErrors): void {
  errors.count += more.count
  errors.samples.push(...more.samples)
}

function halfRestored({ into, way }: DatabasePlan, error: unknown): PgrecallError {
  const mend =
    way === 'existing'
      ? 'restore into it again with --clean --force'
      : `DROP DATABASE ${quoteIdentifier(into)} if it is there, and restore again`
  const { kind, hint } = error instanceof PgrecallError ? error : { kind: 'failed' as const }
  return new PgrecallError(kind, `database "${into}" is not restored, or only in half: ${reasonOf(error)}`, {
    hint: hint === undefined ? mend : `${hint}; then ${mend}`,
    cause: error,
  })
}

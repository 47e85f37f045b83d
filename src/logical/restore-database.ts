import type { DumpedDatabase } from '../catalog/logical-record.ts'
import { PgrecallError } from '../errors.ts'
import { inDatabase } from '../postgres/in-database.ts'
import type { RestoreErrors } from '../postgres/restore-messages.ts'
import { quoteIdentifier, type Server } from '../postgres/server.ts'
import { restoreProperties } from './restore-as-script.ts'
import type { Brought, Comparison } from './restore-compare.ts'
import { type Dump, listFile, openDump } from './restore-dump.ts'
import { chooseEntries, databaseEntries, type LinkedEntry, linkedEntries } from './restore-entries.ts'
import { failureIn, leftText, type State } from './restore-failure.ts'
import { addErrors, loadDump } from './restore-load.ts'
import type { DatabasePlan } from './restore-plan.ts'
import { isChosen } from './restore-request.ts'
import { closedAtSignal, type RestoreRun } from './restore-run.ts'

/** What became of one database. */
export interface RestoredDatabase {
  name: string
  into: string
  errors: RestoreErrors
  /** What belongs to chosen tables, and is not there. */
  leftOut: string[]
  /** Where it was compared. */
  compare?: Comparison
}

/**
 * Restores one dump. What the server refuses is counted, or undoes all of it where the database had data.
 * @param server of the target, in any other database
 * @returns what became of it, and what of the dump was restored
 * @throws PgrecallError that says in which state the database is
 */
export async function restoreDatabase(
  run: RestoreRun,
  server: Server,
  plan: DatabasePlan,
): Promise<{ restored: RestoredDatabase; brought: Brought }> {
  let state: State = plan.way === 'existing' || plan.dropsDatabase ? 'untouched' : 'missing'
  try {
    await using dump = await openDump(run, plan)
    // The list first: what cannot be read at all changes nothing.
    const known = { owners: run.owners, schemas: plan.schemas, encoding: plan.dumped.encoding }
    const entries = await linkedEntries(run.program, run.source.env, dump.start(), known, run.signal)
    const { chosen, leftOut } = choiceOf(run, plan, entries)
    if (plan.dropsDatabase) {
      state = 'dropping'
      await server.query(`DROP DATABASE ${quoteIdentifier(plan.into)}`)
      state = 'dropped'
    }
    if (plan.way !== 'existing') {
      await requireNone(server, plan.into)
      if (plan.way === 'make') await makeDatabase(run, server, plan)
      state = 'made'
    } else if (!plan.allOrNothing) state = 'begun'
    const errors = await loadDump(run, plan, dump, chosen ?? entries, chosen === undefined, () => {
      state = 'begun'
    })
    state = 'loaded'
    if (plan.properties) addErrors(errors, await applyProperties(run, plan, dump, entries))
    if (plan.analyze) await analyze(run, plan, chosen)
    const brought = { entries: chosen ?? entries, isAll: chosen === undefined }
    return { restored: { name: plan.name, into: plan.into, errors, leftOut }, brought }
  } catch (error) {
    const left = await stateLeft(state, server, plan)
    if (run.signal.aborted) run.events.emit('warning', { text: leftText(plan.into, left) })
    run.signal.throwIfAborted()
    throw failureIn(plan.into, left, error)
  }
}

/** Whether a database was dropped, or made by `pg_restore`, only the server knows. */
async function stateLeft(state: State, server: Server, plan: DatabasePlan): Promise<State> {
  const isMade = state === 'made' && plan.way === 'create'
  if (!isMade && state !== 'dropping') return state
  const isThere = await exists(server, plan.into).catch(() => undefined)
  if (isThere === undefined) return state
  if (isThere) return isMade ? 'made' : 'untouched'
  return plan.dropsDatabase ? 'dropped' : 'missing'
}

async function exists(server: Server, database: string): Promise<boolean> {
  return (await server.query('SELECT FROM pg_database WHERE datname = $1', [database])).length > 0
}

/** `pg_restore` would pass over it that a database cannot be made, and go on in the one that is there. */
async function requireNone(server: Server, database: string): Promise<void> {
  if (await exists(server, database))
    throw new PgrecallError('refused', 'somebody has made a database of this name meanwhile', {
      hint: 'look at it, or restore beside it with --into NAME',
    })
}

function choiceOf({ request: { choice }, backup }: RestoreRun, plan: DatabasePlan, entries: LinkedEntry[]) {
  if (!isChosen(choice)) return { chosen: undefined, leftOut: [] }
  const { ids, leftOut } = chooseEntries(entries, choice, plan.schemas, backup.record.dumpVersion)
  const wanted = new Set(ids)
  return { chosen: entries.filter(({ dumpId }) => wanted.has(dumpId)), leftOut }
}

/** With the encoding and the locale of the record, from the one template that takes any. */
async function makeDatabase(run: RestoreRun, server: Server, { into, dumped }: DatabasePlan): Promise<void> {
  const { noOwner, roles } = run.request
  // Whom everything is going to belong to has to be let in.
  const role = noOwner ? run.request.role : (roles.get(dumped.owner) ?? dumped.owner)
  const found = await server.query('SELECT FROM pg_roles WHERE rolname = $1', [role])
  const owner = role === undefined || found.length === 0 ? '' : ` OWNER ${quoteIdentifier(role)}`
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

/** Last of all: a setting such as `default_transaction_read_only` would be in the way of the rest. */
async function applyProperties(
  run: RestoreRun,
  { into }: DatabasePlan,
  dump: Dump,
  entries: readonly LinkedEntry[],
): Promise<RestoreErrors> {
  const { noOwner, noPrivileges } = run.request
  const useList = await listFile(run, 'properties', databaseEntries(entries))
  return restoreProperties(run, into, { noOwner, noPrivileges, useList }, dump.start())
}

/** Of a database that got only parts, the tables that got rows; the others have theirs. @param chosen all, where undefined */
async function analyze(
  { source, signal }: RestoreRun,
  { into }: DatabasePlan,
  chosen: readonly LinkedEntry[] | undefined,
): Promise<void> {
  await using session = await source.connect(inDatabase(source.connection, into))
  using _closed = closedAtSignal(session, signal)
  if (!chosen) {
    await session.query('ANALYZE')
    return
  }
  for (const { schema, name } of chosen.filter(({ type }) => type === 'TABLE DATA')) {
    const table = `${quoteIdentifier(schema!)}.${quoteIdentifier(name)}`
    const [found] = await session.query<{ is: boolean }>('SELECT to_regclass($1) IS NOT NULL AS is', [table])
    if (found?.is) await session.query(`ANALYZE ${table}`)
  }
}

import { inDatabase } from '../postgres/in-database.ts'
import { pgRestore, type RestoreOptions, type RestoreSelection } from '../postgres/pg-restore.ts'
import type { RestoreErrors } from '../postgres/restore-messages.ts'
import { restoreAsScript } from './restore-as-script.ts'
import { type Dump, listFile } from './restore-dump.ts'
import { type LinkedEntry, partsOf } from './restore-entries.ts'
import { saysTooMuch } from './restore-older-server.ts'
import type { DatabasePlan } from './restore-plan.ts'
import type { RestoreRun } from './restore-run.ts'

/**
 * Brings a dump into its database, which is there, unless `pg_restore` makes it.
 * @param entries what is restored of it
 * @param isAll whether that is all that there is
 * @param onCommit called once it cannot be undone any more, where it is all or nothing
 * @returns what the server refused; nothing where it is all or nothing
 * @throws PgrecallError as `pgRestore` and `runScript`
 */
export async function loadDump(
  run: RestoreRun,
  plan: DatabasePlan,
  dump: Dump,
  entries: readonly LinkedEntry[],
  isAll: boolean,
  onCommit: () => void,
): Promise<RestoreErrors> {
  const { request } = run
  const { only } = request.choice
  const isCreated = plan.way === 'create'
  const selection: RestoreSelection = {
    create: isCreated,
    clean: plan.way === 'existing' && request.clean,
    noOwner: request.noOwner,
    noPrivileges: request.noPrivileges,
    schemaOnly: only === 'schema',
    dataOnly: only === 'data',
    ...(request.role !== undefined && { role: request.role }),
    ...(!isAll && { useList: await listFile(run, 'chosen', idsOf(entries)) }),
  }
  if (plan.allOrNothing) return loadAtOnce(run, plan, dump, entries, selection, onCommit)
  if (request.roles.size > 0) return loadInParts(run, plan, dump, entries, selection)
  // A database that is made is connected to by the program itself.
  const door = plan.into === 'postgres' ? 'template1' : 'postgres'
  const options = { ...restoreOptions(run, isCreated ? door : plan.into), ...selection, ...jobsOf(run) }
  return dump.whole((input) => pgRestore(run.program, run.env, options, input))
}

const idsOf = (entries: readonly LinkedEntry[]) => entries.map(({ dumpId }) => dumpId)

const withList = async (run: RestoreRun, selection: RestoreSelection, part: readonly LinkedEntry[]) => ({
  ...selection,
  useList: await listFile(run, 'part', idsOf(part)),
})

/** In one transaction. What a sequence is set to is not undone with it: where it is not made therein either, it comes behind. */
async function loadAtOnce(
  run: RestoreRun,
  { into }: DatabasePlan,
  dump: Dump,
  entries: readonly LinkedEntry[],
  selection: RestoreSelection,
  onCommit: () => void,
): Promise<RestoreErrors> {
  const { request, program, env, plan } = run
  const isLate = valuesOfOthers(selection.dataOnly ? [] : entries)
  const late = entries.filter(isLate)
  const inTime = entries.filter((entry) => !isLate(entry))
  const once = late.length > 0 ? await withList(run, selection, inTime) : selection
  const options = restoreOptions(run, into)
  const errors = await dump.whole(async (input) => {
    const asScript = request.roles.size > 0 || saysTooMuch(program.majorVersion, plan.target.majorVersion)
    const told = asScript
      ? await restoreAsScript(run, into, once, input, true)
      : await pgRestore(program, env, { ...options, ...once, singleTransaction: true }, input)
    onCommit()
    return told
  })
  if (late.length === 0) return errors
  const values = await withList(run, selection, late)
  addErrors(errors, await pgRestore(program, env, { ...options, ...values }, dump.start()))
  return errors
}

/** Which entries set a sequence that is not made by the given ones. */
function valuesOfOthers(entries: readonly LinkedEntry[]): (entry: LinkedEntry) => boolean {
  const key = ({ schema, name }: LinkedEntry) => JSON.stringify([schema, name])
  const made = new Set(entries.filter(({ type }) => type === 'SEQUENCE').map(key))
  return (entry) => entry.type === 'SEQUENCE SET' && !made.has(key(entry))
}

/** What names roles as scripts, in which they are other ones; rows as they are, by as many sessions as are asked for. */
async function loadInParts(
  run: RestoreRun,
  { into }: DatabasePlan,
  dump: Dump,
  entries: readonly LinkedEntry[],
  selection: RestoreSelection,
): Promise<RestoreErrors> {
  const errors: RestoreErrors = { count: 0, samples: [] }
  const { before, rows, after } = partsOf(entries)
  const script = async (part: readonly LinkedEntry[]) => {
    if (part.length === 0) return
    addErrors(
      errors,
      await restoreAsScript(run, into, await withList(run, selection, part), dump.start(), false),
    )
  }
  await script(before)
  const options = { ...restoreOptions(run, into), ...(await withList(run, selection, rows)), ...jobsOf(run) }
  addErrors(errors, await dump.whole((input) => pgRestore(run.program, run.env, options, input)))
  await script(after)
  return errors
}

const jobsOf = ({ request: { jobs } }: RestoreRun) => (jobs > 1 ? { jobs } : {})

function restoreOptions({ source, signal, events }: RestoreRun, database: string): RestoreOptions {
  return {
    connection: { ...inDatabase(source.connection, database), database },
    signal,
    onMessage: (text) => events.emit('warning', { text: `database "${database}": ${text}` }),
  }
}

export function addErrors(errors: RestoreErrors, more: RestoreErrors): void {
  errors.count += more.count
  errors.samples.push(...more.samples)
}

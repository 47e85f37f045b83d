import { tmpdir } from 'node:os'
import { pinIfAllowed } from '../catalog/pin.ts'
import type { Events } from '../events.ts'
import type { RestoreErrors } from '../postgres/restore-messages.ts'
import type { Server } from '../postgres/server.ts'
import type { LogicalSource } from './logical-run.ts'
import { compareDatabase } from './restore-compare.ts'
import { type RestoredDatabase, restoreDatabase } from './restore-database.ts'
import { onceChanged } from './restore-failure.ts'
import { restoreGlobals } from './restore-globals.ts'
import type { PreparedRestore } from './restore-prepare.ts'
import { isChosen } from './restore-request.ts'
import { closedAtSignal, type RestoreRun } from './restore-run.ts'
import { restoreScript } from './restore-script.ts'
import { StagingFolder } from './staging.ts'

export interface LogicalRestoreContext {
  source: LogicalSource
  events: Events
  signal: AbortSignal
  now: () => Date
}

/** What a restore did; every error is one that the server made. */
export interface LogicalRestoreResult {
  globals: RestoreErrors | undefined
  databases: RestoredDatabase[]
}

/**
 * Carries out a plan: roles and tablespaces, then one database after the other.
 * @param server of the target, in a database that is not restored into, if one is dropped; it is closed at the signal
 * @throws PgrecallError at the first thing that is no error of a single statement
 */
export async function restoreLogical(
  prepared: PreparedRestore,
  server: Server,
  context: LogicalRestoreContext,
): Promise<LogicalRestoreResult> {
  const { plan, backup, fingerprints } = prepared
  const { events, signal, now } = context
  const warn = (text: string) => events.emit('warning', { text })
  const { storage } = backup.repository
  await using _pin = await pinIfAllowed(storage, backup.record.cluster, plan.id, 'restore', now, warn)
  await using staging = await stagingFor(prepared)
  using _closed = closedAtSignal(server, signal)
  const run: RestoreRun = { ...prepared, ...context, env: writableEnv(context.source), staging }
  const databases: RestoredDatabase[] = []
  let begun = 0
  let isChanged = false
  try {
    if (plan.globals) isChanged = plan.globals.statements.length > 0
    const globals = plan.globals && (await restoreGlobals(server, plan.globals, signal, warn))
    if (plan.form === 'script') {
      isChanged = true
      await restoreScript(run, server)
    }
    for (const database of plan.databases) {
      signal.throwIfAborted()
      events.emit('detail', { text: `Restoring database "${database.name}" into "${database.into}"` })
      begun++
      const { restored, brought } = await restoreDatabase(run, server, database)
      isChanged = true
      databases.push(restored)
      if (fingerprints) restored.compare = await compareDatabase(run, fingerprints, database, brought)
    }
    return { globals, databases }
  } catch (error) {
    if (isChanged && begun === 0) warn('roles and tablespaces are made, or some of them')
    if (plan.databases.length > 1) warn(progressText(prepared, databases.length, begun))
    signal.throwIfAborted()
    throw isChanged ? onceChanged(error) : error
  }
}

/** Where a restore of several databases has ended. */
function progressText({ plan: { databases } }: PreparedRestore, done: number, begun: number): string {
  const list = (part: typeof databases) => part.map(({ into }) => `"${into}"`).join(', ') || 'none'
  return `databases that are restored: ${list(databases.slice(0, done))}; not begun: ${list(databases.slice(begun))}`
}

/** A database or a role may be set to be only read, which holds for new sessions. */
function writableEnv({ env }: LogicalSource): LogicalSource['env'] {
  return { ...env, PGOPTIONS: `${env.PGOPTIONS ?? ''} -c default_transaction_read_only=off`.trim() }
}

/** Lists of entries are small, and lie in the system's own place unless another is named. */
async function stagingFor({
  request,
  plan: { databases },
}: PreparedRestore): Promise<StagingFolder | undefined> {
  const isNeeded =
    isChosen(request.choice) ||
    request.roles.size > 0 ||
    request.jobs > 1 ||
    databases.some(
      ({ object, properties, allOrNothing }) => object.archive === 'directory' || properties || allOrNothing,
    )
  return isNeeded ? StagingFolder.make(request.staging ?? tmpdir()) : undefined
}

import { tmpdir } from 'node:os'
import { pinIfAllowed } from '../catalog/pin.ts'
import type { Events } from '../events.ts'
import type { RestoreErrors } from '../postgres/restore-messages.ts'
import type { Server } from '../postgres/server.ts'
import type { LogicalSource } from './logical-run.ts'
import { type RestoredDatabase, restoreDatabase } from './restore-database.ts'
import { restoreGlobals } from './restore-globals.ts'
import type { PreparedRestore } from './restore-prepare.ts'
import { isChosen } from './restore-request.ts'
import type { RestoreRun } from './restore-run.ts'
import { restoreScript } from './restore-script.ts'
import { RestoreStaging } from './restore-staging.ts'

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
  script: RestoreErrors | undefined
}

/**
 * Carries out a plan: roles and tablespaces, then one database after the other.
 * @param server of the target, in a database that is not restored into, if one is dropped
 * @throws PgrecallError at the first thing that is no error of a single statement
 */
export async function restoreLogical(
  prepared: PreparedRestore,
  server: Server,
  context: LogicalRestoreContext,
): Promise<LogicalRestoreResult> {
  const { plan, backup } = prepared
  const { events, now } = context
  const onUnpinned = (text: string) => events.emit('warning', { text })
  const { storage } = backup.repository
  await using _pin = await pinIfAllowed(storage, backup.record.cluster, plan.id, 'restore', now, onUnpinned)
  await using staging = await stagingFor(prepared, now())
  const run: RestoreRun = { ...prepared, ...context, env: writableEnv(context.source), staging }
  const onError = (text: string) => events.emit('warning', { text })
  const globals = plan.globals && (await restoreGlobals(server, plan.globals, onError))
  if (plan.form === 'script') return { globals, databases: [], script: await restoreScript(run, server) }
  const databases: RestoredDatabase[] = []
  for (const database of plan.databases) {
    context.signal.throwIfAborted()
    events.emit('detail', { text: `Restoring database "${database.name}" into "${database.into}"` })
    databases.push(await restoreDatabase(run, server, database))
  }
  return { globals, databases, script: undefined }
}

/** A database or a role may be set to be only read, which holds for new sessions. */
function writableEnv({ env }: LogicalSource): LogicalSource['env'] {
  return { ...env, PGOPTIONS: `${env.PGOPTIONS ?? ''} -c default_transaction_read_only=off`.trim() }
}

/** Lists of entries are small, and lie in the system's own place unless another is named. */
async function stagingFor(
  { request, plan: { databases } }: PreparedRestore,
  now: Date,
): Promise<RestoreStaging | undefined> {
  const staged = databases.filter(({ object }) => request.jobs > 1 || object.archive === 'directory')
  const needsList = isChosen(request.choice) || databases.some(({ properties }) => properties)
  if (staged.length === 0 && !needsList) return undefined
  const bytes = Math.max(0, ...staged.map(({ object }) => object.plainBytes ?? object.bytes))
  return RestoreStaging.create(request.staging ?? tmpdir(), bytes, now)
}

import pg from 'pg'
import { claimIdentity } from '../catalog/identity.ts'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import type { Program } from '../postgres/client-programs.ts'
import {
  findPgReceivewal,
  pgReceivewal,
  RECEIVER_NAME,
  type ReceivingEnd,
} from '../postgres/pg-receivewal.ts'
import { connectReplication } from '../postgres/replication.ts'
import {
  dropSlot,
  isSlotLost,
  makeSlot,
  readSenderFacts,
  type SenderFacts,
} from '../postgres/replication-slot.ts'
import { type ConnectionOptions, Server } from '../postgres/server.ts'
import { prepareStart, startingPoint } from './receive-start.ts'
import { listReceived, setAside } from './received-files.ts'

export interface SessionOptions {
  cluster: string
  connection: ConnectionOptions
  repositories: readonly Repository[]
  directory: string
  slot: string
  synchronous: boolean
  env: Record<string, string | undefined>
  onStart: (facts: SenderFacts, slotIsNew: boolean) => void
  onWarning: (text: string) => void
}

/**
 * One connection: looks at the server, makes the slot if there is none, and receives until the connection is lost.
 * @throws PgrecallError what stands against it; see `isFinal`
 */
export async function receiveOnce(options: SessionOptions, signal: AbortSignal): Promise<ReceivingEnd> {
  const program = await prepareSession(options)
  signal.throwIfAborted()
  const end = await pgReceivewal(program, options.env, { ...options, signal })
  if (end.removedSegment !== undefined) await passOver(end.removedSegment, options)
  return end
}

async function prepareSession(options: SessionOptions): Promise<Program> {
  const { connection, directory, slot, env, onStart, onWarning } = options
  const client = await connectReplication(connection).catch((error) => explain(error, connection))
  try {
    const facts = await readSenderFacts(client)
    await requireOwnRepositories(options, facts)
    const hasMet = startingPoint(await listReceived(directory), facts.walSegmentBytes) !== undefined
    const detour = await prepareStart(client, facts, directory)
    if (detour) onWarning(detour)
    // Before the slot is made, which keeps WAL whether anybody receives it or not.
    const program = await findPgReceivewal(Math.floor(facts.version / 10_000), env)
    const isLost = await isSlotLost(client, slot, facts.version)
    if (isLost) await dropSlot(client, slot)
    const isNew = await makeSlot(client, slot)
    if (isNew && hasMet) onWarning(slotIsGone(slot, isLost))
    onStart(facts, isNew)
    return program
  } catch (error) {
    throw asServerError(error)
  } finally {
    // Waits for the end of the server's process, which gives its WAL sender back: there may be only one.
    await client.end().catch(() => {})
  }
}

const slotIsGone = (slot: string, isLost: boolean) =>
  `the replication slot "${slot}" ${isLost ? 'was given up by the server (max_slot_wal_keep_size)' : 'was not there any more'} and was made anew: in between, the server was free to remove WAL that was not received. If it did, the archive has a gap, which is told next`

/** The server has removed what comes next. What it still has is better than nothing. */
async function passOver(segment: string, options: SessionOptions): Promise<void> {
  const { connection, directory, slot, onWarning } = options
  const client = await connectReplication(connection)
  try {
    // The new one begins with the oldest WAL that is sure to stay.
    await dropSlot(client, slot)
    await makeSlot(client, slot)
  } catch (error) {
    throw asServerError(error)
  } finally {
    await client.end().catch(() => {})
  }
  await setAside(directory)
  onWarning(
    `the server removed ${segment} before it was received: unless archive_command stored it, the archive has a gap from there on, and what comes after it can be recovered only from a new backup`,
  )
}

/** A repository that is away can be looked at later; one of another cluster is a mistake that only people can mend. */
async function requireOwnRepositories(options: SessionOptions, facts: SenderFacts): Promise<void> {
  const { systemIdentifier, walSegmentBytes } = facts
  for (const { storage, required } of options.repositories) {
    if (!required) continue
    await claimIdentity(
      storage,
      options.cluster,
      { systemIdentifier, walSegmentBytes },
      { mayMakeRepository: false },
    ).catch((error) => {
      if (isFinal(error, false)) throw error
    })
  }
}

/**
 * Whether trying again cannot help.
 * @param isFirst whether nothing worked before: then what the server refuses is a mistake in its configuration or ours
 */
export function isFinal(error: unknown, isFirst: boolean): boolean {
  if (!(error instanceof PgrecallError)) return true
  if (['refused', 'conflict', 'config', 'usage', 'damaged'].includes(error.kind)) return true
  const code = error.cause instanceof pg.DatabaseError ? error.cause.code : undefined
  return isFirst && /^(?:28|42501|3D|53400|53300|55000|0A)/.test(code ?? '')
}

/** The sentence for a server that does not let us in; `connectReplication` has it for a backup. */
async function explain(error: unknown, connection: ConnectionOptions): Promise<never> {
  if (!(error instanceof PgrecallError)) throw error
  const { cause, hint } = error
  const code = cause instanceof pg.DatabaseError ? cause.code : undefined
  if (code === TOO_MANY_CONNECTIONS && (await hasMinimalWal(connection))) {
    throw new PgrecallError(
      'refused',
      'the server writes too little WAL to be received: wal_level is minimal',
      {
        hint: 'set wal_level = replica and max_wal_senders = 10 in postgresql.conf, and restart the server',
      },
    )
  }
  const what = code === undefined ? 'the server cannot be reached' : 'the server does not let us receive WAL'
  throw new PgrecallError('connection', `${what}: ${reasonOf(cause)}`, { ...(hint && { hint }), cause })
}

const TOO_MANY_CONNECTIONS = '53300'

/** What the driver throws when the server refuses a command, or goes away in the middle of it. */
function asServerError(error: unknown): unknown {
  const isLost = error instanceof Error && error.message.startsWith('Connection terminated')
  if (!isLost && !(error instanceof pg.DatabaseError) && systemCode(error) === undefined) return error
  return new PgrecallError('connection', `the server gave no answer: ${reasonOf(error)}`, { cause: error })
}

async function hasMinimalWal(connection: ConnectionOptions): Promise<boolean> {
  try {
    await using server = await Server.connect(connection)
    return (
      (await server.one<{ level: string }>(`SELECT current_setting('wal_level') AS level`)).level ===
      'minimal'
    )
  } catch {
    return false
  }
}

/** What to say of synchronous commits before the first of them hangs. */
export function describeSynchronous(names: string, isSynchronous: boolean): string | undefined {
  const words = names.toLowerCase().split(/[^\w*]+/)
  const isNamed = words.includes(RECEIVER_NAME) || words.includes('*')
  if (isNamed && !isSynchronous)
    return `commits may wait for this receiver (synchronous_standby_names = '${names}'), which confirms whole segments only: run it with --synchronous`
  if (!isNamed && isSynchronous)
    return `no commit waits for this receiver: add "${RECEIVER_NAME}" to synchronous_standby_names (now '${names}') and reload the server`
  return undefined
}

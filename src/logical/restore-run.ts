import type { Events } from '../events.ts'
import type { Server } from '../postgres/server.ts'
import type { LogicalSource } from './logical-run.ts'
import type { PreparedRestore } from './restore-prepare.ts'
import type { StagingFolder } from './staging.ts'

/** A restore that is carried out. */
export interface RestoreRun extends PreparedRestore {
  /** The target. */
  source: LogicalSource
  /** The environment of what restores. */
  env: LogicalSource['env']
  /** Where lists and staged dumps lie; only where some are needed. */
  staging: StagingFolder | undefined
  events: Events
  signal: AbortSignal
  now: () => Date
}

/** Closes a session at the signal, so that what it waits for fails at once. Disposing forgets the session. */
export function closedAtSignal(session: Server, signal: AbortSignal): Disposable {
  const close = () => void session.close()
  signal.addEventListener('abort', close, { once: true })
  if (signal.aborted) close()
  return { [Symbol.dispose]: () => signal.removeEventListener('abort', close) }
}

import type { Events } from '../events.ts'
import type { LogicalSource } from './logical-run.ts'
import type { PreparedRestore } from './restore-prepare.ts'
import type { RestoreStaging } from './restore-staging.ts'

/** A restore that is carried out. */
export interface RestoreRun extends PreparedRestore {
  /** The target. */
  source: LogicalSource
  /** The environment of what restores. */
  env: LogicalSource['env']
  /** Where lists and staged dumps lie; only where some are needed. */
  staging: RestoreStaging | undefined
  events: Events
  signal: AbortSignal
  now: () => Date
}

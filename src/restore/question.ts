import type { Lsn } from '../postgres/lsn.ts'
import type { Target } from './target.ts'
import type { Reach } from './timeline-path.ts'

/** What is asked for. */
export interface RestoreQuestion {
  /** A backup's id, or undefined for the newest one that fits. */
  backup: string | undefined
  target: Target
  exclusive: boolean
  action: 'pause' | 'promote' | 'shutdown'
  timeline: 'latest' | 'current' | number
  standby: boolean
  archiveMode: 'preserve' | 'off'
}

/** What the archive says about the target: where it is, or how far the WAL goes. */
export interface Evidence {
  reach: Reach
  /** Where a named or numbered target, or the first commit after a time, lies. */
  found: Lsn | undefined
  /** The last moment at which a transaction ended, in what can be reached; microseconds since 1970. */
  lastMoment: bigint | undefined
  /** Where the record of that begins: an LSN target at which a recovery includes it. */
  lastTransaction: Lsn | undefined
  /** The first position after the last record that can be reached. */
  lastLsn: Lsn | undefined
}

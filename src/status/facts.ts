import type { VerifiedRestore } from '../catalog/verification-file.ts'
import type { DroppedWal } from '../catalog/wal-ranges.ts'
import type { Growth } from './growth.ts'
import type { RestoreEstimate } from './restore-estimate.ts'
import type { UnusableBackup } from './windows.ts'

/** What is known when the state of a cluster is judged. Times are ISO 8601, spans seconds; null is what is not known. */

/** A stretch of time to any moment of which one can go back. */
export interface Window {
  timeline: number
  from: { backup: string; time: string; lsn: string }
  /**
   * The last commit in the archive and where its record begins, or the last backup's end where none came after it. Not
   * exact where the last segments have no commit or cannot be read: then there may be later ones.
   */
  to: { time: string; lsn: string; isExact: boolean }
  backups: string[]
  /** The missing segment that ends it, where later WAL is stored. */
  cutBy: string | null
  /** It ends with its backup, as retention has let go the WAL behind: the rule `wal`. */
  isThinned?: true
}

/** A hole in the archive, and what it costs. */
export interface Gap {
  timeline: number
  first: string
  /** Null where a timeline goes over to the next, so that it is not known how much is missing. */
  last: string | null
  segments: number | null
  dropped: DroppedWal[]
  /** How long what comes after it has been stored. */
  ageSeconds: number | null
  /** An earlier gap ends the way already, for all backups before this one. */
  isBehindAnother: boolean
  /** Per timeline whose recoveries end there: whose, and the span that is lost, up to the next backup's end. */
  cuts: { timeline: number; backups: string[]; lostFrom: string; lostUntil: string | null }[]
}

/** WAL that another repository has, and this one has not, though it goes back as far. */
export interface MissingWal {
  has: string
  timeline: number
  first: string
  last: string
  segments: number
}

export interface StoredBackup {
  id: string
  time: string
  ageSeconds: number
  storedBytes: number
}

/** What would be lost if the host died now, and only this repository were left. */
export interface Rpo {
  /** At most so many seconds of commits. */
  seconds: number
  /** From this moment on; null where nothing would be lost. ISO 8601. */
  since: string | null
  /** WAL that the server has written and that is not stored; null where it is not known. */
  unstoredBytes: number | null
  /** `archive`: the server could not say when it last wrote, so that an idle one looks as if it had written up to now. */
  basis: 'server' | 'archive'
}

/** How much is stored of a cluster. */
export interface Stored {
  backups: number
  backupBytes: number
  logical: number
  logicalBytes: number
  walSegments: number
  walBytes: number
}

/** What is remembered of `verify`. Ages are seconds. */
export interface Verified {
  /** When that was last looked at; what was stored since is not known of. */
  updatedAt: string
  /** When that object was read whose last reading is longest ago; null where none ever was. */
  oldestAt: string | null
  ageSeconds: number | null
  /** What is stored, and what of it was never read and found sound, when that was last looked at. */
  bytes: number
  neverBytes: number
  /** What was found damaged, and not mended since; with `isContent` only `--decode` finds it. */
  damaged: { key: string; reason: string; isContent?: true }[]
  lastRestore: VerifiedRestore | null
  lastProvenRestore: (VerifiedRestore & { ageSeconds: number }) | null
}

export interface RepositoryFacts {
  repository: string
  location: string
  /** Why nothing is known of it. */
  error: string | null
  currentTimeline: number | null
  windows: Window[]
  unusable: UnusableBackup[]
  gaps: Gap[]
  /** Histories without which no recovery leads to the WAL that is stored of their timelines. */
  lostHistories: { timeline: number; file: string; isDamaged: boolean }[]
  /** WAL of the current timeline that was given up, and nothing is stored after it. */
  droppedAtEnd: DroppedWal[]
  damagedRecords: { id: string; reason: string }[]
  damagedPages: { id: string; pages: number }[]
  newestBackup: StoredBackup | null
  /** The newest one that builds upon no other. */
  newestFull: StoredBackup | null
  /** Physical ones are the others. One of a part of the cluster does not count. */
  newestLogical: StoredBackup | null
  /** The end of the current timeline in the archive, and how long ago anything of it was stored. */
  archived: {
    lastSegment: string
    storedAt: string
    ageSeconds: number
    behindSegments: number | null
  } | null
  /** What `wal-receive` has stored of a segment, and up to where; null where that could not be read. */
  receiving: { segment: string; storedBytes: number; storedAt: string; lsn: string | null } | null
  freeBytes: number | null
  /** What would be lost with the host; null where nothing can be recovered. */
  rpo: Rpo | null
  restore: RestoreEstimate | null
  stored: Stored | null
  growth: Growth | null
  /** Until nothing is free, at the growth of all clusters that were looked at; null where that is not known, or never. */
  fullInSeconds: number | null
  /** Null where nothing is remembered. */
  verified: Verified | null
  missing: MissingWal[]
  /** Timelines, runs of segments, and the backups that begin in them, as in catalog.json. */
  wal: unknown[]
}

export interface ServerFacts {
  reachable: boolean
  /** Why it cannot be asked. */
  error: string | null
  systemIdentifier: string | null
  inRecovery: boolean | null
  timeline: number | null
  /** Where it writes. */
  lsn: string | null
  archiveMode: string | null
  /** `archive_timeout`: for so long a commit stays in a segment that is not full. Null where it has no limit. */
  archiveTimeoutSeconds: number | null
  /** When WAL was last written, and when the newest whole segment was full; null where that is not known. */
  walClock: { writtenAt: string; completed: { file: string; time: string } | null } | null
  archiver: {
    lastArchived: { file: string; time: string } | null
    lastFailed: { file: string; time: string } | null
  } | null
  /** What waits to be archived, by `archive_status`. */
  waiting: { segments: number; oldest: { file: string; since: string; ageSeconds: number } | null } | null
  /** The replication slot of `wal-receive`, and whether somebody receives through it; null where there is none. */
  slot: { name: string; active: boolean } | null
  /** The disk of `pg_wal`. */
  walDisk: { freeBytes: number } | null
  /** How fast the server writes WAL. */
  walBytesPerSecond: number | null
  /** When `pg_wal` fills its disk; null where that is not known, or not to come at this rate. */
  fullInSeconds: number | null
}

export interface Finding {
  severity: 'ok' | 'warn' | 'fail'
  subject: string
  text: string
  hint?: string
}

import type { Codec } from '../archive/codec.ts'
import type { BackupRecord, DamagedFile } from '../catalog/backup-record.ts'
import type { Events } from '../events.ts'
import type { BackupEnds } from '../postgres/low-level-backup.ts'
import type { ClusterFacts } from '../postgres/server.ts'
import type { TimelineHistory } from '../postgres/timeline-history.ts'
import type { BackupStore } from './backup-store.ts'
import type { ParentFiles } from './parent-files.ts'
import type { KeptShards } from './resume.ts'
import type { ServerPlace } from './server-place.ts'
import type { StoredShard } from './shard.ts'

/** What is asked of every backup, whatever its method. */
export interface BackupRequest {
  cluster: string
  /** `auto`: incremental where there is a backup to build upon, otherwise full. */
  type: 'auto' | 'full' | 'diff' | 'incr'
  /** A chain with so many links is not made longer. */
  maxChain: number
  label: string
  codec: Codec
  jobs: number
  checkpoint: 'fast' | 'spread'
  /** Whether the WAL from start to stop goes into the backup. */
  standalone: boolean
  /** Plain bytes a second; no limit when left out. */
  maxRate: number | undefined
  /** Plain bytes after which a shard is closed; by the size of the cluster when left out. */
  shardBytes: number | undefined
  /** Whether damaged pages void the backup. */
  checksumFailures: 'warn' | 'fail'
  /** Whether shards of an interrupted backup are kept, where they still hold. */
  resume: boolean
  /** The replication slot of `wal-receive`, which archives where the server does not. */
  receiveSlot: string
  archiveTimeoutMs: number
  tool: { name: string; version: string }
}

/** What a method works with: the request, and what belongs to this one run. */
export interface BackupRun {
  request: BackupRequest
  /** The repositories that it goes to. */
  store: BackupStore
  events: Events
  signal: AbortSignal
  /** The new backup's id. */
  id: string
  type: BackupRecord['type']
  /** Of an incremental or differential backup: what it builds upon. */
  parent: ParentBackup | undefined
  /** The secret key for the indexes that this run stores, where they are encrypted. */
  indexIdentities: readonly string[]
  /** What an interrupted run has stored, and what of it the method may keep. */
  kept: KeptShards
}

/** The backup that another one builds upon. It is in every repository that the other one goes to. */
export interface ParentBackup {
  record: BackupRecord
  /** What it has of relations. */
  files: ParentFiles
  /** The plain bytes of its `backup_manifest`. */
  manifest(): AsyncIterable<Buffer>
  /** How the server came to its timeline from that of the parent. */
  history: TimelineHistory
}

/** What is known of the cluster before anything is copied. */
export interface Preflight {
  facts: ClusterFacts
  warnings: string[]
  /** Plain bytes that will be copied, roughly. */
  bytes: number
}

/** A whole cluster in shards, durable, with all that is to be recorded of it. */
export interface Taken {
  facts: ClusterFacts
  /** Whose the data directory was. */
  owner: { uid: number; gid: number }
  ends: BackupEnds
  /** In the order of a restore by hand: `pg_control` lies in the last one of `base`. */
  shards: StoredShard[]
  /** Pages whose checksum is wrong; undefined where the cluster has no checksums. */
  damaged: DamagedFile[] | undefined
  warnings: string[]
  /** Of an incremental or differential backup. */
  increment?: BackupRecord['increment']
  /** As the record has it. */
  withoutVisibilityMaps?: boolean
  /** As they were called at the end; undefined where there is no server to ask. */
  databases?: BackupRecord['databases']
}

/** How a cluster's files are taken: the part of the story between the lock and the commit. */
export interface BackupMethod {
  readonly name: BackupRecord['method']
  /** Aborts when what the method stands on is lost, such as its session on the server. */
  readonly lost: AbortSignal | undefined
  /** Whether shards of an interrupted run can be kept. */
  readonly resumes: boolean
  /** Why it takes full backups only of this cluster, as a part of a sentence; undefined where it can build upon another one. */
  fullOnly(facts: ClusterFacts): string | undefined
  /** Where the server is. Not called where it takes full backups only. */
  place?(): Promise<ServerPlace>
  /** Why the server cannot say what has changed since, as a part of a sentence; undefined where it can, or where we find out. */
  cannotBuildUpon?(parent: ParentBackup): Promise<string | undefined>
  /**
   * Finds everything that would make the backup fail later; changes nothing.
   * @throws PgrecallError `refused` with the reason and what to do
   */
  check(request: BackupRequest): Promise<Preflight>
  take(run: BackupRun): Promise<Taken>
  /** Waits until the WAL that the backup needs is in the repositories, and gives up those where it does not arrive. Not called for standalone backups. */
  awaitWal(run: BackupRun, taken: Taken): Promise<void>
}

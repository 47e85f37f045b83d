import type { z } from 'zod'
import type { ConfigSchema } from '../config/schema.ts'
import type { Events } from '../events.ts'
import type { TargetFolder } from '../restore/data-directory.ts'
import type { RestorePlan } from '../restore/plan.ts'

/** What a configuration file holds, as a value; config.example.yaml has every key with its meaning. */
export type Configuration = z.input<typeof ConfigSchema>

/** What `openCluster` is told. */
export interface OpenOptions {
  /** The configuration file. Left out, it is looked for where the command line does. */
  configFile?: string
  /** The configuration itself, in place of a file. */
  config?: Configuration
  /** The cluster's name; may be left out where the configuration has one. */
  cluster?: string
  /** Only this repository, any of the configuration; otherwise all of the cluster. */
  repository?: string
  /** Stops whatever is done with the cluster, which then rejects with the signal's reason. */
  signal?: AbortSignal
  /** Hears what goes on; see `EventMap`. */
  events?: Events
  /** In place of `process.env`: libpq's and AWS's variables, `PGRECALL_CONFIG`, `PATH`. */
  env?: Readonly<Record<string, string | undefined>>
}

/** A cluster of the configuration, as `openCluster` gives it. It holds nothing open. */
export interface Cluster {
  /** As the configuration calls it. */
  readonly name: string
  /** The repositories that are worked with, in the order of the configuration. */
  readonly repositories: readonly string[]
  /** Where the configuration came from; undefined for one that was handed over, and for the defaults. */
  readonly configFile: string | undefined
}

/** What a backup is to be. What is left out is as the configuration has it. */
export interface BackupOptions {
  method?: 'files' | 'stream' | 'snapshot' | 'cold'
  /** `auto`: incremental where there is a backup to build upon, otherwise full. */
  type?: 'auto' | 'full' | 'diff' | 'incr'
  /** A note that `list` shows. */
  label?: string
  /** How many workers copy side by side. */
  jobs?: number
  /** `zstd:N`, `gzip:N` or `none`. */
  compression?: string
  checkpoint?: 'fast' | 'spread'
  /** Whether the WAL that the backup needs goes into it. */
  standalone?: boolean
  /** Plain bytes a second, with a unit: `50MB`. */
  maxRate?: string
  /** Whether damaged pages void the backup. */
  checksumFailures?: 'warn' | 'fail'
  /** Whether an interrupted backup is gone on with; true when left out. */
  resume?: boolean
}

/** What is dumped. Without any of it: all databases, with roles and tablespaces. Patterns are those of `pg_dump`. */
export interface LogicalBackupOptions {
  /** A note that `list` shows. */
  label?: string
  /** How many databases are dumped at once; with `staging`, by how many sessions each. */
  jobs?: number
  /** `zstd:N`, `gzip:N` or `none`. */
  compression?: string
  /** Only databases of these names; `*` and `?` stand for any characters. */
  database?: readonly string[]
  excludeDatabase?: readonly string[]
  table?: readonly string[]
  excludeTable?: readonly string[]
  excludeTableData?: readonly string[]
  schema?: readonly string[]
  excludeSchema?: readonly string[]
  schemaOnly?: boolean
  dataOnly?: boolean
  /** One script of `pg_dumpall` in place of an archive for each database. */
  whole?: boolean
  /** Whether roles and tablespaces are dumped too; true when left out. */
  globals?: boolean
  /** A folder for dumps that several sessions make. */
  staging?: string
  /** Whether the number of rows and a checksum of each table are recorded. */
  fingerprint?: boolean
  /** Seconds after which waiting for the lock of a table is given up. */
  lockWait?: number
  /** More options for `pg_dump`, one word each. */
  extra?: readonly string[]
}

/** What is restored, to where, and up to which moment: to the end of the WAL unless there is one target. */
export interface RestoreOptions {
  /** The backup's id; the newest that fits the target when left out. */
  id?: string
  /** Where to; the cluster's own data directory when left out. */
  dataDirectory?: string
  /** A moment; a text without a zone is the local time of this host. */
  time?: Date | string
  lsn?: string
  xid?: string
  /** A restore point. */
  name?: string
  /** Only until the backup is consistent. */
  immediate?: boolean
  /** Just before the `time`, `lsn` or `xid` instead of just after it. */
  exclusive?: boolean
  /** What the server does at the target; `pause` when left out. */
  targetAction?: 'pause' | 'promote' | 'shutdown'
  /** `latest` when left out. */
  targetTimeline?: 'latest' | 'current' | number
  /** Go on as a standby. */
  standby?: boolean
  /** `off` for a copy beside the living server, which must not archive into the same place. */
  archiveMode?: 'preserve' | 'off'
  /** New folders of tablespaces, by their location, name or oid. */
  tablespaces?: Readonly<Record<string, string>>
  /** Bring what is there to the state of the backup, instead of removing it. */
  delta?: boolean
  /** Only these databases, beside the templates and `postgres`. */
  includeDatabase?: readonly string[]
  excludeDatabase?: readonly string[]
  /** Remove the cluster that is there. */
  force?: boolean
  /** In place of pgrecall's own: PostgreSQL's `restore_command`. Needed where the configuration is no file. */
  restoreCommand?: string
}

/** A restore that can be carried out: from which repository, how, and into what. */
export interface PlannedRestore {
  readonly plan: RestorePlan
  /** The folders that are filled, with what is in them now, and is given up unless the plan is a delta. */
  readonly targets: readonly TargetFolder[]
}

/** Which backups are verified, and how. */
export interface VerifyOptions {
  /** All when left out; `latest` is the newest physical one. What they build upon is added. */
  ids?: readonly string[]
  /** How many objects are read side by side; 4 when left out. */
  jobs?: number
  /** Take apart what is stored, too: files, pages, dumps, and the records of the WAL. Needs a key where that is encrypted. */
  decode?: boolean
  /** Only such a part of all bytes, above 0 and up to 1: what was read longest ago. Not together with `ids`. */
  fraction?: number
  /** Heal what is damaged from the cluster's other repositories. */
  repair?: boolean
}

/** What is copied, from where to where. */
export interface CopyOptions {
  /** Any repository of the configuration. */
  to: string
  /** The cluster's first repository that is not `to`, when left out. */
  from?: string
  /** All backups when left out; `latest` is the newest. */
  ids?: readonly string[]
  /** Whether backups are copied; true when left out. */
  backups?: boolean
  /** Whether WAL is copied; true when left out. */
  wal?: boolean
  /** How many objects are copied side by side; 4 when left out. */
  jobs?: number
}

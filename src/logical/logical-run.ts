import type { BackupStore } from '../backup/backup-store.ts'
import type { Destinations } from '../backup/destinations.ts'
import type { Events } from '../events.ts'
import type { Program } from '../postgres/client-programs.ts'
import type { DumpableDatabase, DumpSource } from '../postgres/dumpable.ts'
import type { ConnectionOptions, Server } from '../postgres/server.ts'
import type { LogicalRequest } from './logical-request.ts'

/** How a cluster's server and PostgreSQL's programs are reached. */
export interface LogicalSource {
  connection: ConnectionOptions
  connect(connection: ConnectionOptions): Promise<Server>
  /** The environment of the programs. */
  env: Record<string, string | undefined>
}

/** The programs that are used: none is older than the server. */
export interface DumpPrograms {
  dump: Program
  dumpall: Program
  restore: Program
}

/** All that is known before anything is dumped. */
export interface LogicalPlan {
  server: DumpSource
  programs: DumpPrograms
  /** Those that are dumped. */
  databases: DumpableDatabase[]
  /** What `pg_dump` is told of compression: `none` where we compress around it. */
  compress: string
  compressedBy: 'pg_dump' | 'pgrecall'
  warnings: string[]
}

/** A logical backup that is being taken. */
export interface LogicalRun {
  request: LogicalRequest
  plan: LogicalPlan
  source: LogicalSource
  /** Where it lies. */
  place: { cluster: string; id: string }
  destinations: Destinations
  store: BackupStore
  events: Events
  signal: AbortSignal
  /** What the programs and the server warned of. */
  warnings: string[]
}

import type { Ground } from '../ground.ts'
import type { Command } from '../measure.ts'

/** A backup program under measurement. Only what `backup` and `restore` return is timed. */
export interface Tool {
  readonly name: string
  /** Its version and what is special about its settings, for the report; undefined when it is not installed. */
  version(): Promise<string | undefined>
  /** Makes a home in the scratch folder, and everything that a user sets up once. */
  prepare(): Promise<void>
  /** What the server archives with while the tool is measured; absent: it archives nowhere. */
  readonly archiveCommand?: string
  /** A full backup, durable when the command ends. */
  backup(): Command
  /** @param target an empty folder of mode 0700; its files are durable when the command ends. Absent where only backups are measured */
  restore?(target: string): Command
  /** Bytes of the backups that there are, without the WAL archive. */
  storedBytes(): Promise<number>
  /** Removes what `prepare` and the backups made. The server runs again. */
  cleanup(): Promise<void>
}

export type ToolOf = (ground: Ground) => Promise<Tool>

export type ChainToolOf = (ground: Ground) => Promise<ChainTool>

/** A tool that can add to a full backup what has changed since. */
export interface ChainTool extends Omit<Tool, 'restore'> {
  /** Who reads the cluster's files: the command itself, or a walsender for it. */
  readonly reader: 'command' | 'server'
  /** What changed since the last backup; durable when the command ends. */
  incremental(): Command
  /** The ways to restore a chain. */
  readonly chainRestores: ChainRestore[]
}

export interface ChainRestore {
  readonly name: string
  /**
   * Restores the newest state.
   * @param target as for `restore`
   * @param staging an empty folder beside it, for those who need one
   */
  restore(target: string, staging: string): Command
}

import type { Ground } from '../ground.ts'
import type { Command } from '../measure.ts'

/** A backup program under measurement. Only what `backup` and `restore` return is timed. */
export interface Tool {
  readonly name: string
  /** Its version and what is special about its settings, for the report; undefined when it is not installed. */
  version(): Promise<string | undefined>
  /** Makes a home in the scratch folder, and everything that a user sets up once. */
  prepare(): Promise<void>
  /** A full backup, durable when the command ends. */
  backup(): Command
  /** @param target an empty folder of mode 0700; its files are durable when the command ends */
  restore(target: string): Command
  /** Bytes of the one backup that there is, without the WAL archive. */
  storedBytes(): Promise<number>
  /** Removes what `prepare` and the backup made. The server runs again, and archives nowhere. */
  cleanup(): Promise<void>
}

export type ToolOf = (ground: Ground) => Promise<Tool>

import type { Command } from 'commander'

/** What a command is run with: its arguments by position, and its own and the global options. */
export interface Invocation {
  command: CommandName
  args: string[]
  options: Record<string, unknown>
}

export type CommandName =
  | 'init'
  | 'check'
  | 'status'
  | 'report'
  | 'backup'
  | 'list'
  | 'show'
  | 'restore'
  | 'retention'
  | 'pin'
  | 'unpin'
  | 'wal-push'
  | 'wal-fetch'
  | 'wal-prefetch'
  | 'wal-receive'
  | 'catalog rebuild'
  | 'consolidate'
  | 'copy'
  | 'verify'
  | 'key new'
  | 'key rotate'
  | 'schedule print'
  | 'notify'
  | 'completion'

/** Adds a command. @param more examples of its use */
export type Declare = (name: CommandName, text: string, more?: string[], hidden?: boolean) => Command

/** What is about all clusters, unless one is named. */
const LOOKS_AT_ALL: ReadonlySet<CommandName> = new Set(['status', 'report'])

/** Whether something is done for all clusters of the configuration, so that none needs to be chosen. */
export function isForAll({ command, options }: Pick<Invocation, 'command' | 'options'>): boolean {
  return options.allClusters === true || (LOOKS_AT_ALL.has(command) && options.cluster === undefined)
}

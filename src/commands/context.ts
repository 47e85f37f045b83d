import type { Repository } from '../catalog/repository.ts'
import type { LoadedConfig } from '../config/load.ts'
import type { ClusterConfig } from '../config/schema.ts'
import type { Events } from '../events.ts'
import type { ConnectionOptions, Server } from '../postgres/server.ts'
import type { Snapshots } from '../snapshot/snapshots.ts'
import type { Storage } from '../storage/storage.ts'

/** What main.ts builds and hands to a command. */
export interface CommandContext {
  events: Events
  signal: AbortSignal
  now: () => Date
  /** The folder that the command was called in. */
  cwd: string
  home: string
  env: Record<string, string | undefined>
  isRoot: boolean
  version: string
  /** How PostgreSQL can call this very program again: an absolute path. */
  launcher: string
  /** What stdout looks like, for tables. */
  view: { color: boolean; width: number | undefined }
  /** The whole command line's program, for completions. */
  completion: (shell: 'bash' | 'zsh' | 'fish') => Promise<string>

  /** The configuration in force; the defaults when there is no file. */
  config(): LoadedConfig
  /** The cluster that `--cluster` names, or the only one. @throws PgrecallError `config` */
  cluster(): { name: string; config: ClusterConfig }
  /** The cluster's repositories, or the one that `--repository` names. @throws PgrecallError `config` */
  repositories(): Repository[]
  /** Every cluster of the configuration. */
  clusters(): string[]
  /** All repositories of a cluster whatever `--repository` says, or just these of the configuration. @throws PgrecallError `config` */
  repositoriesOf(cluster: string, named?: readonly string[]): Repository[]
  /**
   * Makes a repository whose folder does not exist yet; one that exists must be a repository already, since it may be
   * where a disk is not mounted. @throws PgrecallError `repository`
   */
  makeIfNew(repository: Repository): Promise<void>
  /** Makes a folder that is to be a repository; as root, it is given to `owner`. */
  makeLocalRepository(path: string, owner: { uid: number; gid: number } | undefined): Promise<Storage>
  /** Snapshots of this host's volumes. @throws PgrecallError `config` when none are configured */
  snapshots(): Promise<Snapshots>
  /** How to reach the server of the cluster, or of another one. @throws PgrecallError `config` or `connection` */
  connection(cluster?: string): Promise<ConnectionOptions>
  connect(cluster?: string): Promise<Server>
}

/** What a command gives back: the same result for people and for programs. */
export interface Outcome {
  text: string
  json: unknown
  /** What is written in place of both, in whatever form it was asked for, and also when nothing is wanted for people. */
  document?: string
  /** 0 unless the result itself is a negative answer. */
  exitCode?: number
}

/** Every command has this shape. */
export type Run = (
  invocation: { args: string[]; options: Record<string, unknown> },
  context: CommandContext,
) => Promise<Outcome>

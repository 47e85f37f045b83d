import type { Repository } from '../catalog/repository.ts'
import type { LoadedConfig } from '../config/load.ts'
import type { ClusterConfig } from '../config/schema.ts'
import type { ConnectionOptions, Server } from '../postgres/server.ts'

/** Which cluster is looked over, and by which means. */
export interface LookOverQuestion {
  cluster: string
  config: ClusterConfig
  /** The configuration in force, and the file that it came from. */
  loaded: LoadedConfig
  /** @throws PgrecallError `config` when one cannot be opened, as for a public key that is none */
  repositories: () => Repository[]
  connection: () => Promise<ConnectionOptions>
  connect: () => Promise<Server>
  /** All that the configured method looks at before it begins. @throws PgrecallError as a backup would */
  checkMethod: () => Promise<unknown>
  /** How PostgreSQL can call this very program: an absolute path. */
  launcher: string
  env: Record<string, string | undefined>
  home: string
  signal: AbortSignal
  now: () => Date
  /**
   * Makes a repository that is new. Given, each one is made where it is new, and tried with a small object that is removed
   * again. Left out, nothing is changed anywhere: repositories are only read.
   */
  makeIfNew?: (repository: Repository) => Promise<void>
}

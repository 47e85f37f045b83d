import { PgrecallError } from '../errors.ts'
import type { LoadedConfig } from './load.ts'
import type { ClusterConfig, Config, RepositoryConfig } from './schema.ts'

/**
 * The cluster that is meant.
 * @param named what `--cluster` says; it can be left out when there is only one
 * @throws PgrecallError `config`
 */
export function chooseCluster(
  { config, file }: LoadedConfig,
  named: string | undefined,
): { name: string; config: ClusterConfig } {
  const names = Object.keys(config.clusters)
  const name = named ?? (names.length === 1 ? names[0]! : undefined)
  const found = name !== undefined && Object.hasOwn(config.clusters, name) ? config.clusters[name] : undefined
  if (name !== undefined && found) return { name, config: found }
  const where = file ?? 'the default configuration'
  throw new PgrecallError(
    'config',
    name === undefined ? `${where} has ${names.length} clusters` : `${where} has no cluster "${name}"`,
    { hint: `say which one with --cluster: ${names.join(', ') || 'none is configured'}` },
  )
}

/** A repository of a cluster, as it is configured. */
export interface ChosenRepository {
  name: string
  /** Whether what it cannot take is a failure. */
  required: boolean
  config: RepositoryConfig
}

/**
 * The cluster's repositories in the order of the configuration, or those that are named: any that is configured, since
 * `copy` may have brought the cluster's backups there.
 * @throws PgrecallError `config`
 */
export function chooseRepositories(
  config: Config,
  cluster: { name: string; config: ClusterConfig },
  named: readonly string[] | undefined,
): ChosenRepository[] {
  const own = cluster.config.repositories
  const chosen = named?.map((name) => ({ name, required: true })) ?? own
  return chosen.map(({ name, required }) => {
    if (Object.hasOwn(config.repositories, name))
      return { name, required, config: config.repositories[name]! }
    throw new PgrecallError('config', `there is no repository "${name}" in the configuration`, {
      hint: `cluster "${cluster.name}" has ${own.map((repository) => repository.name).join(', ')}`,
    })
  })
}

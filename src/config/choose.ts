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
 * The cluster's repositories in the order of the configuration, or the one that is named.
 * @throws PgrecallError `config`
 */
export function chooseRepositories(
  config: Config,
  cluster: { name: string; config: ClusterConfig },
  named: string | undefined,
): ChosenRepository[] {
  const known = cluster.config.repositories
  if (named !== undefined && !known.some(({ name }) => name === named)) {
    throw new PgrecallError('config', `cluster "${cluster.name}" has no repository "${named}"`, {
      hint: `it has ${known.map(({ name }) => name).join(', ')}`,
    })
  }
  return known
    .filter(({ name }) => named === undefined || name === named)
    .map(({ name, required }) => ({
      name,
      required: required || named !== undefined,
      config: config.repositories[name]!,
    }))
}

import type { CommandContext } from '../commands/context.ts'
import { PgrecallError } from '../errors.ts'
import type { Cluster } from './api.ts'

const contexts = new WeakMap<Cluster, CommandContext>()

/** @throws PgrecallError `config` where the cluster or a repository is not configured */
export function handleOf(context: CommandContext): Cluster {
  const cluster = Object.freeze({
    name: context.cluster().name,
    repositories: context.repositories().map(({ name }) => name),
    configFile: context.config().file,
  })
  contexts.set(cluster, context)
  return cluster
}

/** Does something with a cluster. What fails because it was told to stop, fails with the signal's reason. */
export async function inCluster<T>(
  cluster: Cluster,
  work: (context: CommandContext) => Promise<T>,
): Promise<T> {
  const context = contexts.get(cluster)
  if (!context) throw new PgrecallError('usage', 'the cluster is not one that openCluster gave')
  const { signal } = context
  signal.throwIfAborted()
  try {
    return await work(context)
  } catch (error) {
    signal.throwIfAborted()
    throw error
  }
}

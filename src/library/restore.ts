import { resolve } from 'node:path'
import type { CommandContext } from '../commands/context.ts'
import { restoreCommand } from '../commands/restore-command.ts'
import { databaseChoiceOf, questionOf } from '../commands/restore-question.ts'
import { PgrecallError } from '../errors.ts'
import { prepareRestore } from '../restore/prepare-plan.ts'
import { inspectRestore, type RestoreResult, restoreCluster } from '../restore/restore-cluster.ts'
import type { PlannedRestore, RestoreOptions } from './api.ts'

/** `planRestore` of the library. */
export async function plan(context: CommandContext, options: RestoreOptions): Promise<PlannedRestore> {
  const { name, config } = context.cluster()
  const directory = options.dataDirectory ?? config.dataDirectory
  if (directory === undefined) {
    throw new PgrecallError('usage', 'it is not said where to restore to', {
      hint: `give dataDirectory, or set clusters.${name}.dataDirectory in the configuration`,
    })
  }
  const moves = Object.entries(options.tablespaces ?? {})
  const { plan } = await prepareRestore(
    {
      cluster: name,
      question: questionOf(options.id, asOptions(options)),
      dataDirectory: resolve(context.cwd, directory),
      tablespaceMap: new Map(moves.map(([old, folder]) => [old, resolve(context.cwd, folder)])),
      delta: options.delta === true,
      databases: databaseChoiceOf(asOptions(options)),
      restoreCommandFor: (from) => options.restoreCommand ?? ownCommand(context, name, from),
    },
    { ...context, repositories: context.repositories() },
  )
  return { plan, targets: await inspectRestore(plan, options.force === true) }
}

/** `restore` of the library. */
export async function carryOut(
  context: CommandContext,
  { plan, targets }: PlannedRestore,
  jobs: number | undefined,
): Promise<RestoreResult> {
  const { name, config } = context.cluster()
  const [repository] = context.repositoriesOf(name, [plan.repository])
  return restoreCluster(plan, targets, {
    ...context,
    repository: repository!,
    jobs: jobs ?? config.restore.jobs,
  })
}

/** As the command line has them, with its defaults. */
function asOptions({ time, targetTimeline = 'latest', ...options }: RestoreOptions): Record<string, unknown> {
  return {
    includeDatabase: [],
    excludeDatabase: [],
    targetAction: 'pause',
    archiveMode: 'preserve',
    ...options,
    targetTimeline: String(targetTimeline),
    time: time instanceof Date ? time.toISOString() : time,
  }
}

/** The restored server runs the launcher, which has to find the same configuration. */
function ownCommand(
  context: CommandContext,
  ...[cluster, from]: [string, Parameters<typeof restoreCommand>[1]]
) {
  const { file, absent } = context.config()
  if (file !== undefined || absent.length > 0) return restoreCommand(cluster, from, context)
  throw new PgrecallError(
    'usage',
    'the restored server fetches its WAL by a command that needs a configuration file',
    {
      hint: 'open the cluster with configFile, or give restoreCommand',
    },
  )
}

import { resolve } from 'node:path'
import { isLogicalId } from '../catalog/layout.ts'
import { formatDuration } from '../cli/units.ts'
import { PgrecallError } from '../errors.ts'
import type { TargetFolder } from '../restore/data-directory.ts'
import type { RestorePlan } from '../restore/plan.ts'
import { prepareRestore } from '../restore/prepare-plan.ts'
import { inspectRestore, restoreCluster } from '../restore/restore-cluster.ts'
import type { Run } from './context.ts'
import { restoreCommand } from './restore-command.ts'
import { run as runLogical } from './restore-logical.ts'
import { refuseRestoreOptionsOf } from './restore-logical-options.ts'
import { databaseChoiceOf, questionOf, tablespaceMapOf } from './restore-question.ts'
import { planText, resultText } from './restore-text.ts'

export const run: Run = async (invocation, context) => {
  const { args, options } = invocation
  if (isLogicalId(args[0] ?? '')) return runLogical(invocation, context)
  refuseRestoreOptionsOf('logical', options)
  const { name, config } = context.cluster()
  const directory = (options.dataDirectory as string | undefined) ?? config.dataDirectory
  if (directory === undefined) {
    throw new PgrecallError('usage', 'it is not said where to restore to', {
      hint: `add --data-directory DIR, or set clusters.${name}.dataDirectory in the configuration`,
    })
  }
  const { plan, repository } = await prepareRestore(
    {
      cluster: name,
      question: questionOf(args[0], options),
      dataDirectory: resolve(context.cwd, directory),
      tablespaceMap: tablespaceMapOf(options.tablespace as string[], context.cwd),
      delta: options.delta === true,
      databases: databaseChoiceOf(options),
      restoreCommandFor: (from) => restoreCommand(name, from, context),
    },
    { repositories: context.repositories(), events: context.events, signal: context.signal },
  )
  const targets = await inspectRestore(plan, options.force === true)
  const words = planText(plan, targets)
  const facts = { plan: planFacts(plan), replaces: replacedBy(targets) }
  if (options.dryRun) return { text: words, json: { dryRun: true, ...facts } }

  context.events.emit('notice', { lines: words.split('\n') })
  const begun = context.now()
  const result = await restoreCluster(plan, targets, {
    repository,
    events: context.events,
    signal: context.signal,
    now: context.now,
    isRoot: context.isRoot,
    jobs: (options.jobs as number | undefined) ?? config.restore.jobs,
  })
  const took = formatDuration(context.now().getTime() - begun.getTime())
  return { text: resultText(plan, result, took), json: { dryRun: false, ...facts, ...result } }
}

/** The plan for programs: of the backups below it, who they are. */
const planFacts = (plan: RestorePlan) => ({
  ...plan,
  chain: plan.chain.map(({ id, type, storedBytes }) => ({ id, type, storedBytes })),
})

/** The folders whose content is given up, or brought to the state of the backup. */
const replacedBy = (targets: readonly TargetFolder[]) =>
  targets.filter(({ entries }) => entries.length > 0).map(({ path }) => path)

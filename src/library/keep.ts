import { type Catalog, loadCatalog } from '../catalog/catalog.ts'
import type { Finding } from '../checks/finding.ts'
import { lookOver } from '../checks/look-over.ts'
import { checkQuestion } from '../commands/check-question.ts'
import type { CommandContext } from '../commands/context.ts'
import { endsOf, levelOf } from '../commands/copy.ts'
import { type Answer, inEachRepository } from '../commands/each-repository.ts'
import { onlyLooking } from '../commands/only-looking.ts'
import { rulesOf } from '../commands/retention-rules.ts'
import { type CopyResult, copyCluster } from '../copy/copy-cluster.ts'
import { PgrecallError } from '../errors.ts'
import { applyRetention, previewRetention, type RetentionResult } from '../retention/apply.ts'
import type { RetentionPlan } from '../retention/plan.ts'
import { hasBackupRule, type RetentionRules } from '../retention/rules.ts'
import { type Status, takeStatus } from '../status/take-status.ts'
import { thresholdsWith } from '../status/thresholds.ts'
import { type VerifiedRepository, verifyRepository } from '../verification/verify-repository.ts'
import type { CopyOptions, VerifyOptions } from './api.ts'

/** `listBackups` of the library. */
export async function list(context: CommandContext): Promise<Answer<Catalog>[]> {
  const { name } = context.cluster()
  const { answers } = await inEachRepository(context, ({ storage }) =>
    loadCatalog(storage, name, { believing: true }),
  )
  return answers
}

/** `takeStatus` of the library. */
export function look(context: CommandContext): Promise<Status> {
  const { name, config } = context.cluster()
  return takeStatus(name, {
    ...onlyLooking(context),
    repositories: context.repositories(),
    dataDirectory: config.dataDirectory,
    slot: config.wal.receive.slot,
    limits: thresholdsWith(config.status, hasBackupRule(config.retention)),
  })
}

/** `planRetention` of the library. */
export async function planRules(
  context: CommandContext,
  rules: RetentionRules | undefined,
): Promise<Answer<RetentionPlan>[]> {
  const { name } = context.cluster()
  const wanted = rulesFor(context, rules)
  const { answers } = await inEachRepository(context, (repository) =>
    previewRetention(name, wanted, { ...context, repository }),
  )
  return answers
}

/** `applyRetention` of the library. */
export async function applyRules(
  context: CommandContext,
  rules: RetentionRules | undefined,
): Promise<Answer<RetentionResult>[]> {
  const { name } = context.cluster()
  const wanted = rulesFor(context, rules)
  const { answers } = await inEachRepository(context, (repository) =>
    applyRetention(name, wanted, { ...context, repository }),
  )
  return answers
}

/** @throws PgrecallError `config` without any rule */
function rulesFor(context: CommandContext, given: RetentionRules | undefined): RetentionRules {
  const { name, config } = context.cluster()
  const rules: RetentionRules = { timeZone: config.timeZone, ...(given ?? config.retention) }
  return rulesOf(name, { retention: rules, timeZone: rules.timeZone }, {})
}

/** `verify` of the library. */
export async function verifyBackups(
  context: CommandContext,
  { ids = [], jobs = 4, decode = false, fraction, repair = false }: VerifyOptions,
): Promise<Answer<VerifiedRepository>[]> {
  const { name: cluster } = context.cluster()
  const { answers } = await inEachRepository(context, (repository) => {
    const others = context.repositoriesOf(cluster).filter(({ name }) => name !== repository.name)
    return verifyRepository(repository, { cluster, ids, jobs, decode, fraction, repair, others }, context)
  })
  return answers
}

/** `check` of the library. */
export function check(context: CommandContext): Promise<Finding[]> {
  return lookOver(checkQuestion(context))
}

/** `copyBackups` of the library. */
export function copy(
  context: CommandContext,
  { to, from, ids = [], backups = true, wal = true, jobs = 4 }: CopyOptions,
): Promise<CopyResult> {
  const { name: cluster } = context.cluster()
  if (from === to) throw new PgrecallError('usage', `"from" and "to" are the same repository, "${to}"`)
  const ends = endsOf(cluster, from, to, context)
  return copyCluster(
    { cluster, ids: [...ids], backups, wal, jobs, level: levelOf(cluster, context), ...ends },
    context,
  )
}

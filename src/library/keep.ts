import { type Catalog, loadCatalog } from '../catalog/catalog.ts'
import type { CommandContext } from '../commands/context.ts'
import { endsOf, levelOf } from '../commands/copy.ts'
import { type Answer, inEachRepository } from '../commands/each-repository.ts'
import { type CopyResult, copyCluster } from '../copy/copy-cluster.ts'
import { PgrecallError } from '../errors.ts'
import { applyRetention, previewRetention, type RetentionResult } from '../retention/apply.ts'
import type { RetentionPlan } from '../retention/plan.ts'
import { hasBackupRule, type RetentionRules } from '../retention/rules.ts'
import { type Status, takeStatus } from '../status/take-status.ts'
import { type VerifiedBackup, verifyRepository } from '../verification/verify-repository.ts'
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
    ...context,
    repositories: context.repositories(),
    dataDirectory: config.dataDirectory,
    slot: config.wal.receive.slot,
  })
}

/** `planRetention` of the library. */
export async function planRules(
  context: CommandContext,
  rules: RetentionRules | undefined,
): Promise<Answer<RetentionPlan>[]> {
  const { name } = context.cluster()
  const wanted = rulesOf(context, rules)
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
  const wanted = rulesOf(context, rules)
  const { answers } = await inEachRepository(context, (repository) =>
    applyRetention(name, wanted, { ...context, repository }),
  )
  return answers
}

function rulesOf(context: CommandContext, given: RetentionRules | undefined): RetentionRules {
  const { name, config } = context.cluster()
  const timeZone = config.timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone
  const rules = { timeZone, ...(given ?? config.retention) }
  if (hasBackupRule(rules) || (rules.wal ?? rules.logical) !== undefined) return rules
  throw new PgrecallError('config', `cluster "${name}" has no retention rule, so everything stays`, {
    hint: `set clusters.${name}.retention in the configuration, or give rules`,
  })
}

/** `verify` of the library. */
export async function verifyBackups(
  context: CommandContext,
  { ids = [], jobs = 4 }: VerifyOptions,
): Promise<Answer<VerifiedBackup[]>[]> {
  const { name: cluster } = context.cluster()
  const { answers } = await inEachRepository(context, (repository) =>
    verifyRepository(repository, { cluster, ids, jobs }, context),
  )
  return answers
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

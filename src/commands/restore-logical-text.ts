import { formatBytes, formatCount } from '../cli/units.ts'
import type { LogicalRestoreResult } from '../logical/restore-logical.ts'
import type { DatabasePlan, LogicalRestorePlan } from '../logical/restore-plan.ts'
import type { PreparedRestore } from '../logical/restore-prepare.ts'

/** The plan, for people. */
export function logicalPlanText({ plan, request, backup: { record } }: PreparedRestore): string {
  const { globals, databases, target } = plan
  const lines = [
    `Backup    ${plan.id} from repository "${plan.repository}" (stored ${formatBytes(record.storedBytes)}), of PostgreSQL ${record.postgres.text}`,
    `To        the server of PostgreSQL ${target.versionText}`,
    ...(globals
      ? [
          `Roles     ${listOf(globals.madeRoles)}`,
          ...globals.madeTablespaces.map(
            ({ name, location }) => `          tablespace "${name}" in ${location}`,
          ),
          ...(globals.existing.length > 0
            ? [
                `Existing  ${listOf(globals.existing)}: ${globals.changesExisting ? 'changed to what the backup says' : 'left as they are'}`,
              ]
            : []),
        ]
      : []),
    ...databases.map((database) => `Database  ${databaseText(database, request.clean)}`),
    ...(plan.form === 'script' ? ['Script    all of the cluster, by psql, to the first error'] : []),
    ...plan.warnings.map((text) => `Note      ${text}`),
  ]
  return `Restore plan\n${lines.map((line) => `  ${line}`).join('\n')}`
}

function databaseText(plan: DatabasePlan, clean: boolean): string {
  const { name, into, way, dropsDatabase, dumped, properties } = plan
  const what = `"${name}"${into === name ? '' : ` into "${into}"`}`
  const own = 'its settings, its privileges and its comment'
  if (way === 'existing')
    return `${what}: ${existingText(plan, clean)}${properties ? `; ${own} become the backup's` : ''}`
  const made = `${what}: ${dropsDatabase ? 'dropped, and ' : ''}made with encoding ${dumped.encoding}`
  if (way === 'create') return made
  return `${made}, in the default tablespace${properties ? '' : `, without ${own}`}`
}

function existingText({ allOrNothing }: DatabasePlan, clean: boolean): string {
  if (!allOrNothing) return 'exists without data, and is filled'
  return clean
    ? 'has data; what the dump has is dropped and made again, all of it or nothing'
    : 'has data; the dump is added, all of it, or nothing where something of it exists'
}

const listOf = (names: readonly string[]) => names.map((name) => `"${name}"`).join(', ') || 'none'

/** How many statements the server refused. */
export function errorCount({ globals, databases }: LogicalRestoreResult): number {
  const counts = [globals, ...databases.map(({ errors }) => errors)].map((errors) => errors?.count ?? 0)
  return counts.reduce((sum, count) => sum + count, 0)
}

/** What was done, and what went wrong. @param took how long it took, for people */
export function logicalResultText(
  plan: LogicalRestorePlan,
  result: LogicalRestoreResult,
  took: string,
): string {
  const { globals, databases } = result
  const count = errorCount(result)
  const what = plan.form === 'script' ? 'the cluster' : formatCount(databases.length, 'database')
  const refused = [
    { where: 'roles and tablespaces', errors: globals },
    ...databases.map(({ into, errors }) => ({ where: `database "${into}"`, errors })),
  ].filter(({ errors }) => (errors?.count ?? 0) > 0)
  return [
    count === 0
      ? `Restored ${what} from ${plan.id} in ${took}.`
      : `Restored ${what} from ${plan.id} in ${took}, but the server refused ${formatCount(count, 'statement')}:`,
    ...refused.flatMap(({ where, errors }) => [
      `  ${where}: ${errors!.count}`,
      ...errors!.samples.map((text) => `    ${text}`),
    ]),
    ...databases.flatMap(({ into, leftOut }) =>
      leftOut.map((text) => `Left out of "${into}", since it needs what was not chosen: ${text}`),
    ),
  ].join('\n')
}

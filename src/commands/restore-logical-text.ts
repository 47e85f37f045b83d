import { formatBytes, formatCount } from '../cli/units.ts'
import type { TableFingerprint } from '../logical/fingerprint.ts'
import { type Difference, differenceText } from '../logical/fingerprint-compare.ts'
import type { LogicalRestoreResult } from '../logical/restore-logical.ts'
import type { DatabasePlan, LogicalRestorePlan } from '../logical/restore-plan.ts'
import type { PreparedRestore } from '../logical/restore-prepare.ts'
import { isChosen, type RestoreChoice } from '../logical/restore-request.ts'

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
    ...(isChosen(request.choice) || request.choice.only ? [`Only      ${chosenText(request.choice)}`] : []),
    ...(plan.form === 'script' ? ['Script    all of the cluster, by psql, to the first error'] : []),
    ...(request.compare ? [`Compare   ${compareText(request)}`] : []),
    ...plan.warnings.map((text) => `Note      ${text}`),
  ]
  return `Restore plan\n${lines.map((line) => `  ${line}`).join('\n')}`
}

/** What of each database, in the words of the options. */
function chosenText({ tables, schemas, excludeSchemas, only }: RestoreChoice): string {
  const each = (option: string, names: readonly string[]) => names.map((name) => `--${option} ${name}`)
  return [
    ...each('table', tables),
    ...each('schema', schemas),
    ...each('exclude-schema', excludeSchemas),
    ...(only ? [`--${only}-only`] : []),
  ].join(' ')
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

function compareText({ choice }: PreparedRestore['request']): string {
  const what = 'all rows that are restored, with what was counted when they were dumped'
  return choice.only === 'data' ? `${what}; a table that has rows already will differ` : what
}

const listOf = (names: readonly string[]) => names.map((name) => `"${name}"`).join(', ') || 'none'

/** How many statements the server refused. */
export function errorCount({ globals, databases }: LogicalRestoreResult): number {
  const counts = [globals, ...databases.map(({ errors }) => errors)].map((errors) => errors?.count ?? 0)
  return counts.reduce((sum, count) => sum + count, 0)
}

/** How many things are not there as they were recorded. */
export function differenceCount({ databases }: LogicalRestoreResult): number {
  return databases.reduce((sum, { compare }) => sum + (compare?.differences.length ?? 0), 0)
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
    ...comparisonLines(result),
  ].join('\n')
}

const DIFFERENCES_SHOWN = 20
/** In this order, and what one of them is called. */
const COMPARED: readonly [TableFingerprint['kind'], string][] = [
  ['table', 'table'],
  ['materialized view', 'materialized view'],
  ['sequence', 'sequence'],
  ['large objects', 'large object'],
]

/** Nothing where nothing was compared. */
function comparisonLines(result: LogicalRestoreResult): string[] {
  const { databases } = result
  const comparisons = databases.flatMap(({ into, compare }) => (compare ? [{ into, ...compare }] : []))
  if (comparisons.length === 0) return []
  const counts = COMPARED.map(([kind, one]) => ({
    count: comparisons.reduce((sum, { compared }) => sum + (compared[kind] ?? 0), 0),
    one,
  })).filter(({ count }) => count > 0)
  const compared = counts.map(({ count, one }) => formatCount(count, one)).join(', ')
  const lines = (list: 'differences' | 'remarks') =>
    firstOf(comparisons.flatMap((each) => each[list].map((one) => differenceLine(each.into, one))))
  const [differences, remarks] = [lines('differences'), lines('remarks')]
  const verdict =
    differences.length > 0
      ? `${formatCount(differenceCount(result), 'difference')}:`
      : remarks.length > 0
        ? 'no rows are known to differ.'
        : 'all as recorded.'
  return [
    `Compared ${compared || 'nothing'}: ${verdict}`,
    ...differences,
    ...(remarks.length > 0 ? ['To be looked at, and no failure:', ...remarks] : []),
  ]
}

const differenceLine = (into: string, difference: Difference) =>
  `  database "${into}": ${differenceText(difference)}`

function firstOf(lines: readonly string[]): string[] {
  const more = lines.length - DIFFERENCES_SHOWN
  return [...lines.slice(0, DIFFERENCES_SHOWN), ...(more > 0 ? [`  and ${more} more: see --json`] : [])]
}

import type { LogicalRecord, Selection } from './logical-record.ts'

/** What of each database was chosen, in the words of the options that say so; empty where all was. Pure. */
export function selectionText(selection: Selection): string {
  const each = (option: string, patterns: readonly string[] = []) =>
    patterns.map((pattern) => `--${option} ${pattern}`)
  return [
    ...each('table', selection.tables),
    ...each('exclude-table', selection.excludeTables),
    ...each('schema', selection.schemas),
    ...each('exclude-schema', selection.excludeSchemas),
    ...each('exclude-table-data', selection.excludeTableData),
    ...(selection.only ? [`--${selection.only}-only`] : []),
    ...(selection.extra?.length ? ['--', ...selection.extra] : []),
  ].join(' ')
}

/** Which databases were asked for, in the words of the options. Pure. */
export function choiceText({
  databases = [],
  excludeDatabases = [],
}: NonNullable<LogicalRecord['choice']>): string {
  return [
    ...databases.map((pattern) => `--database ${pattern}`),
    ...excludeDatabases.map((pattern) => `--exclude-database ${pattern}`),
  ].join(' ')
}

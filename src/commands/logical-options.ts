import type { Selection } from '../catalog/logical-record.ts'
import { PgrecallError } from '../errors.ts'

/** Options of `backup` that mean something to logical backups only. */
const LOGICAL = [
  'database',
  'excludeDatabase',
  'table',
  'excludeTable',
  'excludeTableData',
  'schema',
  'excludeSchema',
  'schemaOnly',
  'dataOnly',
  'whole',
  'lockWait',
  'staging',
  'fingerprint',
  'globals',
]
/** And to physical ones only. */
const PHYSICAL = ['type', 'checkpoint', 'standalone', 'maxRate', 'checksumFailures', 'resume']
/** Those that are on, and can be switched off. */
const NEGATED = ['globals', 'resume']

/**
 * Refuses what the other kind of backups has.
 * @throws PgrecallError `usage`
 */
export function refuseOptionsOfOther(
  kind: 'logical' | 'physical',
  options: Record<string, unknown>,
  extra: readonly string[],
): void {
  const others = kind === 'logical' ? PHYSICAL : LOGICAL
  const given = others.find((name) => isGiven(name, options[name]))
  const named = given === undefined ? undefined : optionOf(given)
  const first = named ?? (kind === 'physical' ? extra[0] : undefined)
  if (first === undefined) return
  const [whose, how] =
    kind === 'logical'
      ? ['physical backups only', 'leave it out']
      : ['logical backups only', 'add --method logical, or leave it out']
  throw new PgrecallError('usage', `${first} is for ${whose}`, { hint: how })
}

function isGiven(name: string, value: unknown): boolean {
  if (NEGATED.includes(name)) return value === false
  return Array.isArray(value) ? value.length > 0 : value !== undefined && value !== false
}

const optionOf = (name: string) =>
  `--${NEGATED.includes(name) ? 'no-' : ''}${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`

/** What of each database is asked for. @param extra what stands behind `--` */
export function selectionOf(options: Record<string, unknown>, extra: readonly string[]): Selection {
  const lists = {
    tables: options.table,
    excludeTables: options.excludeTable,
    excludeTableData: options.excludeTableData,
    schemas: options.schema,
    excludeSchemas: options.excludeSchema,
    extra,
  } as Record<string, readonly string[]>
  const given = Object.fromEntries(Object.entries(lists).filter(([, list]) => list.length > 0))
  if (options.schemaOnly && options.dataOnly)
    throw new PgrecallError('usage', '--schema-only and --data-only exclude each other')
  const only = options.schemaOnly ? 'schema' : options.dataOnly ? 'data' : undefined
  return { ...given, ...(only && { only }) }
}

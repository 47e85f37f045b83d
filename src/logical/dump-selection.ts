import type { Selection } from '../catalog/logical-record.ts'
import type { DumpSelection } from '../postgres/pg-dump.ts'

/** The record's words as the program's. */
export function dumpSelection({ only, extra: _extra, ...patterns }: Selection): DumpSelection {
  return {
    ...patterns,
    ...(only === 'schema' && { schemaOnly: true }),
    ...(only === 'data' && { dataOnly: true }),
  }
}

/** Whether a database is dumped in parts only, so that what these parts need may be missing at a restore. */
export function isPartial({ tables, excludeTables, schemas, excludeSchemas, extra }: Selection): boolean {
  return [tables, excludeTables, schemas, excludeSchemas, extra].some((list) => (list?.length ?? 0) > 0)
}

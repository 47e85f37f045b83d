import type { Chance } from '../crash/chance.ts'

/** What of a table the drawing of a workload has to know. */
export interface Table {
  name: string
  /** The next id to insert; those before may be gone. */
  nextId: number
  logged: boolean
  /** The numbers of its partitions; absent of an ordinary table. */
  partitions?: number[]
}

export interface Database {
  name: string
  tables: Table[]
  /** Counts all that it ever had, so that a name is never used twice. */
  namesGiven: number
  largeObjects: number[]
  /** The oid that it was created with; absent where PostgreSQL chose it. */
  oid?: number
  tablespace: string
  /** Whether its tables may lie in other tablespaces, so that it cannot be moved itself. */
  spread: boolean
  /** Whether it has the materialised view. */
  hasView: boolean
}

/** The cluster as it will be at a point of a plan that is being drawn. */
export interface World {
  major: number
  /** Those made for the test, and `pg_default`. */
  tablespaces: string[]
  databases: Database[]
  databasesMade: number
  largeObjectsMade: number
}

/** Something that is done to the server between two backups, or during one. */
export type Step =
  | {
      kind: 'sql'
      database: string
      /** Each is a transaction of its own, unless it says otherwise. */
      statements: string[]
      /** Databases to which nobody may be connected. */
      closes?: string[]
    }
  | { kind: 'server'; what: 'kill -9' | 'immediate restart' | 'fast restart' }
  | { kind: 'summaries'; what: 'lose all' | 'lose one' }
  /** Extends a table to the 1 GiB of a whole segment, see `Source`. */
  | { kind: 'extend'; database: string; table: string }

export function sql(database: { name: string }, ...statements: string[]): Step {
  return { kind: 'sql', database: database.name, statements }
}

/** The statements that make a table are always the same. */
const WHOLE_TABLE = /CREATE (UNLOGGED )?TABLE (\w+) \(id .*?CREATE SEQUENCE \w+/g

export function textOf(step: Step): string {
  if (step.kind === 'server') return `the server: ${step.what}`
  if (step.kind === 'summaries') return `WAL summaries: ${step.what}`
  if (step.kind === 'extend') return `${step.database}: ${step.table} is extended to 1 GiB`
  return `${step.database}: ${step.statements.join('; ').replace(WHOLE_TABLE, 'CREATE $1TABLE $2 (...) with all indexes')}`
}

export function pick<T>(chance: Chance, values: readonly T[]): T {
  return values[chance.below(values.length)]!
}

/** True that often of a hundred times. */
export function happens(chance: Chance, percent: number): boolean {
  return chance.below(100) < percent
}

/** From `least` up to and with `most`. */
export function between(chance: Chance, least: number, most: number): number {
  return least + chance.below(most - least + 1)
}

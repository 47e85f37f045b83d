import type { DatabaseChoice } from './choose-databases.ts'
import type { RoleMap } from './restore-roles.ts'

/** What of each database is restored; names, or patterns with `*` and `?`. All, where nothing is said. */
export interface RestoreChoice {
  /** With or without their schema: `orders`, `sales.orders`. */
  tables: readonly string[]
  schemas: readonly string[]
  excludeSchemas: readonly string[]
  only: 'schema' | 'data' | undefined
}

/** What is asked of a restore of a logical backup. */
export interface LogicalRestoreRequest {
  cluster: string
  id: string
  databases: DatabaseChoice
  /** The name of the database that is restored into, where that is another one. */
  into: string | undefined
  choice: RestoreChoice
  /** Makes databases anew: one that exists is in the way, or dropped with `clean`. */
  create: boolean
  /** Drops what is in the way. */
  clean: boolean
  /** Goes into databases that have data. */
  force: boolean
  /** Whether roles and tablespaces are made. */
  globals: boolean
  noOwner: boolean
  noPrivileges: boolean
  /** Roles that stand for others, in what owners and privileges there are. */
  roles: RoleMap
  /** Who owns everything, with `noOwner`. */
  role: string | undefined
  /** New folders of tablespaces, by name or old folder. */
  tablespaces: ReadonlyMap<string, string>
  /** Sessions side by side for each database; more than one only with `staging`. */
  jobs: number
  /** Where dumps are put down that cannot be restored as they stream by. */
  staging: string | undefined
  /** Whether statistics are gathered afterwards. */
  analyze: boolean
  /** Whether what was restored is compared with the backup's fingerprints. */
  compare: boolean
}

/** Whether only parts of the databases are asked for. */
export const isChosen = ({ tables, schemas, excludeSchemas }: RestoreChoice) =>
  tables.length + schemas.length + excludeSchemas.length > 0

import type { Codec } from '../archive/codec.ts'
import type { Selection } from '../catalog/logical-record.ts'
import type { DatabaseChoice } from './choose-databases.ts'

/** What is asked of a logical backup. */
export interface LogicalRequest {
  cluster: string
  label: string
  codec: Codec
  /** How many databases are dumped at once; with `staging`, by how many sessions each. */
  jobs: number
  /** A folder for dumps that cannot stream, as several sessions make them. */
  staging: string | undefined
  /** Whether rows are counted and summed too. */
  fingerprint: boolean
  databases: DatabaseChoice
  selection: Selection
  /** One script of `pg_dumpall` instead of an archive for each database. */
  whole: boolean
  /** Whether roles and tablespaces are dumped too. */
  globals: boolean
  /** How long a table's lock is waited for; without a limit when left out. */
  lockWaitMs: number | undefined
  tool: { name: string; version: string }
}

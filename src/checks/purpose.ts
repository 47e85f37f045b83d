import type { Catalog } from '../catalog/catalog.ts'
import type { ClusterConfig } from '../config/schema.ts'

/** What kinds of backups a cluster has: the configuration leaves that to whoever calls `backup`, what is stored tells it. */
export interface Purpose {
  /** Backups of the cluster's files. */
  physical: boolean
  /** Dumps. */
  logical: boolean
  /** Whether its backups need WAL that is archived. */
  archived: boolean
}

export function purposeOf(
  { backup, retention }: Pick<ClusterConfig, 'backup' | 'retention'>,
  catalogs: readonly Pick<Catalog, 'backups' | 'logical'>[],
): Purpose {
  const { logical: logicalRule, ...rules } = retention
  const hasDumps = catalogs.some(({ logical }) => logical.length > 0)
  const hasRules = Object.values(rules).some((rule) => rule !== undefined)
  const physical = !hasDumps || hasRules || catalogs.some(({ backups }) => backups.length > 0)
  return {
    physical,
    logical: hasDumps || logicalRule !== undefined,
    archived: physical && backup.method !== 'cold',
  }
}

import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { brokenText, type Chains } from '../catalog/chains.ts'
import { damagedText, type KnownDamage, REPAIR_TEXT } from '../catalog/known-damage.ts'
import { isIncrementId, isLogicalId } from '../catalog/layout.ts'
import { hasOwnWal, lacksHistory } from '../catalog/wal-ranges.ts'

/** Why a backup cannot be recovered, so that those before it are the ones that a recovery begins with. */
export interface Fault {
  /** For the table. */
  reason: string
  /** A sentence, said of one that stays. */
  warning: string
}

/** Only those backups have an entry that cannot be recovered. */
export type Faults = ReadonlyMap<BackupSummary, Fault>

export function faultsOf(
  catalog: Catalog,
  chains: Chains<BackupSummary>,
  damage: KnownDamage | undefined,
): Faults {
  const faults = new Map<BackupSummary, Fault>()
  for (const backup of catalog.backups) {
    const fault = faultOf(backup, catalog, chains, damage)
    if (fault) faults.set(backup, fault)
  }
  return faults
}

function faultOf(
  backup: BackupSummary,
  { wal, walSegmentBytes }: Catalog,
  chains: Chains<BackupSummary>,
  damage: KnownDamage | undefined,
): Fault | undefined {
  const notCounted = backup.type === 'full' ? ', so not counted' : ''
  const cost = `it stays, and ${notCounted ? 'does not count as one of those that are kept' : 'cannot be recovered'}`
  const missing = chains.missingOf(backup)
  if (missing !== undefined)
    return {
      reason: `its chain is broken${notCounted}`,
      warning: `backup ${backup.id} ${brokenText(missing)}; ${cost}`,
    }
  const damaged = damage?.of(backup)
  if (damaged)
    return {
      reason: `known to be damaged${notCounted}`,
      warning: `backup ${backup.id} ${damagedText(damaged)}; ${cost}; ${REPAIR_TEXT}`,
    }
  const isReachable = !wal.some((entry) => entry.timeline === backup.timeline && lacksHistory(entry))
  if ((backup.standalone && isReachable) || hasOwnWal(backup, wal, walSegmentBytes)) return undefined
  return {
    reason: `lacks its WAL${notCounted}`,
    warning: `backup ${backup.id} lacks its own WAL; ${cost}`,
  }
}

/** Ids of the physical backups that are there and of which nobody can read what they need. */
export function unreadableIn({ damaged, lost = [] }: Pick<Catalog, 'damaged' | 'lost'>): string[] {
  return [...damaged.map(({ id }) => id), ...lost].filter((id) => !isLogicalId(id))
}

/** A sentence about a backup whose record cannot be believed. */
export function unreadableText({ id, reason }: Catalog['damaged'][number]): string {
  if (isLogicalId(id)) return `backup ${id} cannot be read (${reason}); it stays`
  const also = isIncrementId(id) ? 'all that it may build upon, and all WAL' : 'all WAL'
  return `backup ${id} cannot be read (${reason}); it stays, and so does ${also}`
}

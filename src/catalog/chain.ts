import { PgrecallError } from '../errors.ts'
import type { Storage } from '../storage/storage.ts'
import { type BackupRecord, type BackupSummary, readBackupRecord } from './backup-record.ts'

/** What of a backup says upon which other one it builds. */
export type Link = Pick<BackupSummary, 'id' | 'parent' | 'start' | 'timeline' | 'systemIdentifier'>

/** A backup with all that it builds upon. */
export interface Chain<Backup> {
  /** Oldest first: a full backup, unless one is missing; the last one is the backup itself. */
  links: Backup[]
  /** The id of the link that is not there, or is another backup than the one that was built upon. */
  missing: string | undefined
}

/**
 * Follows a backup down to the full one that it builds upon. Pure.
 * @param backups those that there are, in any order
 */
export function chainOf<Backup extends Link>(backups: readonly Backup[], backup: Backup): Chain<Backup> {
  const links = [backup]
  for (let [first] = links; first?.parent; [first] = links) {
    const { id } = first.parent
    const below = backups.find((candidate) => candidate.id === id)
    if (!below || !isParent(below, first) || links.includes(below)) return { links, missing: id }
    links.unshift(below)
  }
  return { links, missing: undefined }
}

/** Whether a backup is the very one that another was built upon. */
export function isParent(below: Link, { parent, systemIdentifier }: Link): boolean {
  return (
    below.id === parent!.id &&
    below.start.lsn === parent!.startLsn &&
    below.timeline === parent!.timeline &&
    below.systemIdentifier === systemIdentifier
  )
}

/**
 * Reads the records of a backup's chain.
 * @returns oldest first; the last one is the backup itself
 * @throws PgrecallError `damaged` where a link is missing or cannot be believed
 */
export async function readChain(storage: Storage, record: BackupRecord): Promise<BackupRecord[]> {
  const links = [record]
  for (let [first] = links; first?.parent; [first] = links) {
    const { id } = first.parent
    const below = await readBackupRecord(storage, record.cluster, id)
    if (!below || !isParent(below, first) || links.some((link) => link.id === id)) {
      const what = below ? `is not the one that ${first.id} was built upon` : 'is missing'
      throw new PgrecallError('damaged', `backup ${record.id} builds upon ${id}, which ${what}`, {
        hint: 'restore from another repository, or from a backup of another chain: "pgrecall list" shows them',
      })
    }
    links.unshift(below)
  }
  return links
}

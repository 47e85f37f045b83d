import type { BackupSummary } from '../catalog/backup-record.ts'
import { chainOf } from '../catalog/chain.ts'
import { PgrecallError } from '../errors.ts'

/** A backup that cannot be restored, since a link of its chain is missing. */
export interface BrokenChain {
  id: string
  missing: string
}

/** Tells apart the backups whose chains are whole, in their order, from the others. Pure. */
export function wholeChains(backups: readonly BackupSummary[]): {
  whole: BackupSummary[]
  broken: BrokenChain[]
} {
  const whole: BackupSummary[] = []
  const broken: BrokenChain[] = []
  for (const backup of backups) {
    const { missing } = chainOf(backups, backup)
    if (missing === undefined) whole.push(backup)
    else broken.push({ id: backup.id, missing })
  }
  return { whole, broken }
}

/**
 * Refuses what only a broken chain leads to.
 * @param asked the backup that was asked for by its id
 * @throws PgrecallError `damaged`
 */
export function requireWhole(
  { whole, broken }: ReturnType<typeof wholeChains>,
  asked: string | undefined,
): void {
  const wanted = broken.findLast(({ id }) => asked === undefined || id === asked)
  if (!wanted || (wanted.id !== asked && whole.length > 0)) return
  throw new PgrecallError('damaged', `backup ${wanted.id} cannot be restored: ${missingLink(wanted)}`, {
    hint: 'restore from another repository, or from a backup of another chain: "pgrecall list" shows them',
  })
}

export const missingLink = ({ missing }: BrokenChain) =>
  `${missing}, upon which it builds, is missing or is another backup by now`

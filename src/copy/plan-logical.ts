import { isLogicalId } from '../catalog/layout.ts'
import type { LogicalSummary } from '../catalog/logical-record.ts'
import { PgrecallError } from '../errors.ts'

/** The logical backups of one cluster in one repository, oldest first. */
export interface StoredLogical {
  /** The repository's name. */
  repository: string
  logical: readonly LogicalSummary[]
  /** Of either kind. */
  damaged: readonly { id: string; reason: string }[]
}

export type LogicalCopyVerdict =
  | { verdict: 'copy' | 'there'; backup: LogicalSummary }
  /** It cannot be copied, and so the copy is not complete. */
  | { verdict: 'left'; backup: LogicalSummary; reason: string }

/**
 * Which logical backups are to be copied. Pure.
 * @param ids of backups of either kind; all when empty
 * @throws PgrecallError `absent` or `damaged` for a logical backup that is asked for by its id, `conflict` when the two have
 *   different ones of one id
 */
export function planLogicalCopy(
  source: StoredLogical,
  destination: StoredLogical,
  ids: readonly string[],
): LogicalCopyVerdict[] {
  return askedFor(source, ids).map((backup) => verdictOn(backup, source, destination))
}

function askedFor({ repository, logical, damaged }: StoredLogical, ids: readonly string[]): LogicalSummary[] {
  if (ids.length === 0) return [...logical]
  const asked = new Set(ids.filter(isLogicalId))
  for (const id of asked) {
    if (logical.some((backup) => backup.id === id)) continue
    const unreadable = damaged.find((backup) => backup.id === id)
    if (unreadable) throw new PgrecallError('damaged', unreadable.reason)
    throw new PgrecallError('absent', `there is no backup "${id}" in repository "${repository}"`, {
      hint: '"pgrecall list" shows the backups',
    })
  }
  return logical.filter(({ id }) => asked.has(id))
}

function verdictOn(
  backup: LogicalSummary,
  source: StoredLogical,
  destination: StoredLogical,
): LogicalCopyVerdict {
  const there = destination.logical.find(({ id }) => id === backup.id)
  // A backup was stored in several repositories at once, or it is another one.
  if (there && there.startedAt !== backup.startedAt) {
    throw new PgrecallError(
      'conflict',
      `backup ${backup.id} in repository "${destination.repository}" is not the one in "${source.repository}"; nothing was overwritten`,
      { hint: 'two servers write backups of this cluster: give one of them a cluster name of its own' },
    )
  }
  if (there) return { verdict: 'there', backup }
  const unreadable = destination.damaged.find(({ id }) => id === backup.id)
  return unreadable ? { verdict: 'left', backup, reason: unreadable.reason } : { verdict: 'copy', backup }
}

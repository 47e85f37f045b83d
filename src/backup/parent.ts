import type { BackupSummary } from '../catalog/backup-record.ts'
import { chainOf } from '../catalog/chain.ts'
import { type DamagedObject, damagedText, REPAIR_TEXT } from '../catalog/known-damage.ts'
import { formatLsn, lsn } from '../postgres/lsn.ts'
import type { ClusterFacts } from '../postgres/server.ts'
import type { BackupRequest } from './method.ts'
import type { ServerPlace } from './server-place.ts'

/** The size of a block unless the server was built with another one, which is all that a restore of changed blocks knows. */
const BLOCK_BYTES = 8192

/** Upon what a new backup builds, or why it builds upon nothing. */
export type ParentChoice<Backup> = ({ parent: Backup } | { reason: string }) & {
  /** Said of the newest one that is not built upon since it is known to be damaged. */
  warning?: string
}

/**
 * Chooses the backup that a new one builds upon: the newest that is fit, for a differential one the newest fit full one. Where
 * nothing is left of the newest chain, as its full backup is damaged, none before it is taken: the lost one is to be replaced. Pure.
 * @param held what each repository that the backup goes to has, oldest first; the parent has to be in all of them
 * @param damageOf what is known that would spoil what is built upon a backup
 * @returns otherwise the reason, as a part of a sentence, why the newest one is not fit
 */
export function chooseParent<Backup extends BackupSummary>(
  held: readonly (readonly Backup[])[],
  { type, maxChain }: Pick<BackupRequest, 'type' | 'maxChain'>,
  facts: ClusterFacts,
  place: ServerPlace,
  damageOf: (backup: Backup) => DamagedObject | undefined,
): ParentChoice<Backup> {
  const { blockBytes } = facts
  if (blockBytes !== BLOCK_BYTES)
    return { reason: `the server's blocks have ${blockBytes} bytes instead of ${BLOCK_BYTES}` }
  const [first = [], ...others] = held
  const eligible = first.filter((backup) => type !== 'diff' || backup.type === 'full').toReversed()
  if (eligible.length === 0)
    return { reason: type === 'diff' ? 'there is no full backup yet' : 'there is no backup yet' }
  let firstReason: string | undefined
  let warned: { warning: string } | undefined
  for (const backup of eligible) {
    const { links, missing } = chainOf(first, backup)
    const damage = damageOf(backup)
    const fault =
      (damage && `it ${damagedText(damage)}`) ??
      faultOf(backup, facts, place) ??
      (missing === undefined ? undefined : `it builds upon ${missing}, which is missing`) ??
      (others.every((backups) => holds(backups, backup)) ? undefined : 'it is not in every repository')
    if (fault !== undefined) firstReason ??= `${backup.id} is no parent: ${fault}`
    if (damage) warned ??= { warning: `backup ${backup.id} ${damagedText(damage)}; ${REPAIR_TEXT}` }
    if (damage && backup.type === 'full') break
    if (fault !== undefined) continue
    if (links.length < maxChain) return { parent: backup, ...warned }
    // One further down would make the chain no shorter for long.
    return {
      reason: `the chain of ${backup.id} has ${links.length} links (backup.maxChain is ${maxChain})`,
      ...warned,
    }
  }
  return { reason: firstReason!, ...warned }
}

/** What keeps an incremental backup from building upon this one, of all that says something of its files. */
function faultOf(backup: BackupSummary, facts: ClusterFacts, place: ServerPlace): string | undefined {
  const major = Math.floor(backup.postgres.version / 10_000)
  if (backup.systemIdentifier !== facts.systemIdentifier) return 'it is of another cluster'
  if (major !== facts.majorVersion) return `it is of PostgreSQL ${major}`
  // No LSN changes when pg_checksums writes them into every page.
  if (backup.dataChecksums !== facts.dataChecksums) return 'page checksums were switched since'
  if (backup.method === 'cold') return 'it was taken of a server that was shut down'
  // What was wrong there may have been mended without a trace in the WAL.
  if (backup.damagedPages) return 'it has damaged pages'
  return faultOfPlace(backup, place)
}

/** All that is in the backup has to be in the server's own past. */
function faultOfPlace({ timeline, stop }: BackupSummary, place: ServerPlace): string | undefined {
  const end = lsn(stop.lsn)
  if (timeline === place.timeline)
    return end <= place.lsn
      ? undefined
      : `it ends at ${stop.lsn}, and the server is at ${formatLsn(place.lsn)}`
  if (!place.history) return `it is on timeline ${timeline}, and the way from there is not known`
  const stretch = place.history.find((candidate) => candidate.timeline === timeline)
  if (stretch?.end === undefined || end > stretch.end || end < stretch.begin)
    return `it is on timeline ${timeline}, which the server left before the end of that backup, or never was on`
  return undefined
}

/** Whether a repository has the very same backup, with all that it builds upon. */
function holds(backups: readonly BackupSummary[], backup: BackupSummary): boolean {
  const same = backups.find(
    ({ id, start, startedAt }) =>
      id === backup.id && start.lsn === backup.start.lsn && startedAt === backup.startedAt,
  )
  return same !== undefined && chainOf(backups, same).missing === undefined
}

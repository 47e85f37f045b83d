import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { Chains } from '../catalog/chains.ts'
import { isLogicalId, isPhysicalId } from '../catalog/layout.ts'
import { isWhole, type LogicalSummary } from '../catalog/logical-record.ts'
import { PgrecallError } from '../errors.ts'

/** A backup to be looked at. */
export interface Chosen {
  id: string
  /** Undefined where its record cannot be believed. */
  summary: BackupSummary | LogicalSummary | undefined
  /** The link that its chain lacks; undefined where none does. */
  missing: string | undefined
  /** Whether it is loaded, too. */
  isLoaded: boolean
}

/**
 * Oldest first, each once, with all that is built upon.
 * @param ids all where there are none
 * @param isLoading whether some are loaded, too: of all, the newest logical one of the whole cluster
 * @throws PgrecallError `absent` for an id that is not there; `usage` for a physical one that is to be loaded
 */
export function chooseBackups(
  { backups, logical, damaged }: Pick<Catalog, 'backups' | 'logical' | 'damaged'>,
  repository: string,
  ids: readonly string[],
  isLoading: boolean,
): Chosen[] {
  const chains = new Chains(backups)
  const known = [...backups, ...logical, ...damaged].toSorted((a, b) => (a.id < b.id ? -1 : 1))
  const newest = () => newestWhole(logical, damaged, repository)
  const wanted = new Set(
    ids.length === 0
      ? known
      : ids.flatMap((asked) => {
          if (asked === 'latest' && isLoading) return newest()
          const found = asked === 'latest' ? newestOf(known) : known.find(({ id }) => id === asked)
          if (found) return [found]
          throw new PgrecallError('absent', `there is no backup ${asked} in repository "${repository}"`, {
            hint: '"pgrecall list" shows the backups that there are',
          })
        }),
  )
  const loaded: { id: string }[] = isLoading ? (ids.length === 0 ? newest() : [...wanted]) : []
  for (const { id } of loaded) requireLogical(id)
  for (const backup of backups.filter((candidate) => wanted.has(candidate)))
    for (const below of chains.ancestorsOf(backup)) wanted.add(below)
  const missing = new Map(backups.map((backup) => [backup.id, chains.missingOf(backup)]))
  return known
    .filter((backup) => wanted.has(backup))
    .map((backup) => ({
      id: backup.id,
      summary: 'reason' in backup ? undefined : backup,
      missing: missing.get(backup.id),
      isLoaded: loaded.includes(backup),
    }))
}

/** A dump is one only where there is nothing to recover with. */
const newestOf = <Backup extends { id: string }>(known: readonly Backup[]) =>
  known.findLast(({ id }) => isPhysicalId(id)) ?? known.at(-1)

/**
 * The newest of the whole cluster, and newer ones with a damaged record, of which nobody knows what they have: without them the
 * older one would be taken for the last.
 */
function newestWhole<Damaged extends { id: string }>(
  logical: readonly LogicalSummary[],
  damaged: readonly Damaged[],
  repository: string,
): (LogicalSummary | Damaged)[] {
  const whole = logical.filter(isWhole).toSorted((a, b) => (a.id < b.id ? 1 : -1))[0]
  const isNewer = ({ id }: { id: string }) => isLogicalId(id) && (whole === undefined || id > whole.id)
  const newest = [...(whole ? [whole] : []), ...damaged.filter(isNewer)]
  if (newest.length > 0) return newest
  throw new PgrecallError('absent', `repository "${repository}" has no logical backup of the whole cluster`, {
    hint: '"pgrecall backup --method logical" takes one; name one of a part by its id',
  })
}

function requireLogical(id: string): void {
  if (isLogicalId(id)) return
  throw new PgrecallError('usage', `--restore is for logical backups, and ${id} is a physical one`, {
    hint: 'name logical ones, or leave --restore out',
  })
}

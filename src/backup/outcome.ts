import { updateCatalog } from '../catalog/catalog.ts'
import type { Repository } from '../catalog/repository.ts'
import type { Events } from '../events.ts'
import type { Destinations } from './destinations.ts'

/** A backup that is complete, in one repository. */
export interface StoredRecord<Kind> {
  repository: string
  record: Kind
}

/** What came of a backup, of either kind: at least one repository has it. */
export interface BackupOutcome<Kind> {
  /** By repository, in the order of the configuration. */
  records: StoredRecord<Kind>[]
  failures: { repository: string; required: boolean; error: unknown }[]
}

/** The repositories that have no record of it, and why. @param repositories all that it was to go to */
export function failuresOf(
  repositories: readonly Repository[],
  { failures }: Destinations,
  records: readonly { repository: string }[],
): BackupOutcome<unknown>['failures'] {
  const isStored = (name: string) => records.some(({ repository }) => repository === name)
  return repositories
    .filter(({ name }) => failures.has(name) && !isStored(name))
    .map(({ name, required }) => ({ repository: name, required, error: failures.get(name) }))
}

/** Says what was noticed, and lets the catalogs know of the new backup. */
export async function tellOutcome(
  cluster: string,
  destinations: Destinations,
  records: readonly StoredRecord<{ warnings: readonly string[] }>[],
  { events, now }: { events: Events; now: () => Date },
): Promise<void> {
  const texts = new Set(records.flatMap(({ record }) => record.warnings))
  for (const text of texts) events.emit('warning', { text })
  for (const { repository } of destinations.live) await refreshCatalog(repository, cluster, { events, now })
}

/** The backup counts already; a catalog that cannot be written only makes the next reader slower. */
async function refreshCatalog(
  { name, storage }: Repository,
  cluster: string,
  { events, now }: { events: Events; now: () => Date },
): Promise<void> {
  try {
    await updateCatalog(storage, cluster, now())
  } catch (error) {
    events.emit('warning', {
      text: `the backup is complete, but the catalog of repository "${name}" could not be written: ${(error as Error).message}`,
    })
  }
}

import type { BackupSummary } from './backup-record.ts'
import type { StoredCatalog } from './catalog-file.ts'

/**
 * Of folders without a record those whose backup was there: `catalog.json` has it, from which retention takes a backup
 * before it touches it, or another one builds upon it. All others hold what killed runs have left. Pure.
 * @param withoutRecord ids of the folders
 * @param backups those that are there
 * @returns undefined where there is none
 */
export function lostAmong(
  withoutRecord: readonly string[],
  backups: readonly Pick<BackupSummary, 'parent'>[],
  stored: StoredCatalog | undefined,
): string[] | undefined {
  const listed = stored ? [...stored.backups, ...stored.logical].map(({ id }) => id) : []
  const parents = backups.flatMap(({ parent }) => (parent ? [parent.id] : []))
  const once = new Set([...listed, ...(stored?.lost ?? []), ...parents])
  const lost = withoutRecord.filter((id) => once.has(id))
  return lost.length > 0 ? lost : undefined
}

/** What a person is told of such a one: a sentence without its end. */
export function lostText(id: string): string {
  return `backup ${id} has lost its backup.json, and what else there is of it stays: "pgrecall verify --repair" brings the record from another repository; where none has it, remove the folder by hand`
}

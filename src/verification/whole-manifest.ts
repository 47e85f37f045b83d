import { backupPrefix } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { filesInManifest } from '../reconstruction/link-files.ts'
import type { FoundFaults } from './found-faults.ts'
import type { Stock } from './stock.ts'

/**
 * Of each backup all of whose shards were taken apart: their members are the files of its manifest, with their sizes and sums, and
 * nothing else.
 * @throws PgrecallError `repository`
 */
export async function requireSameFiles(
  repository: Repository,
  { chosen }: Stock,
  found: FoundFaults,
  signal: AbortSignal,
): Promise<void> {
  for (const { id } of chosen) {
    signal.throwIfAborted()
    const files = found.filesOf(id)
    const record = found.recordOf(id)
    if (!files || !record || record.method === 'logical') continue
    const manifest = record.objects.find(({ kind }) => kind === 'manifest')
    const key = backupPrefix(record.cluster, id) + (manifest?.name ?? 'backup_manifest')
    try {
      const listed = await filesInManifest(repository, record)
      if (listed.equals(files)) {
        found.noteProven(key)
        continue
      }
      const reason = `it lists ${listed.count} files, and not those with the sizes and sums that the ${files.count} in the shards have`
      found.note({ key, reason, isContent: true })
    } catch (error) {
      if (!(error instanceof PgrecallError) || error.kind !== 'damaged') throw error
      found.note({ key, reason: reasonOf(error), isContent: true })
    }
  }
}

import type { BackupRecord } from '../catalog/backup-record.ts'
import { objectsOf, type ReadObjectsOptions, readObjects } from '../catalog/read-objects.ts'
import { PgrecallError } from '../errors.ts'

export type VerifyLinksContext = Pick<ReadObjectsOptions, 'repository' | 'jobs' | 'events' | 'signal'>

/**
 * Reads all objects of incremental backups, of which a restore reads parts only, and compares them with their stored sums.
 * Needs no secret key.
 * @throws PgrecallError `damaged`
 */
export async function verifyLinks(
  links: readonly BackupRecord[],
  context: VerifyLinksContext,
): Promise<void> {
  const objects = links.flatMap((link) =>
    objectsOf({ ...link, objects: link.objects.filter(({ kind }) => kind !== 'text') }),
  )
  await readObjects(objects, {
    ...context,
    task: 'Checking the chain',
    onFault(key, reason) {
      throw new PgrecallError('damaged', `object ${key} is damaged: ${reason}`, {
        hint: 'restore from another repository, or from a backup below it; nothing was written',
      })
    },
  })
}

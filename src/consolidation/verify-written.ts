import type { BackupDraft } from '../catalog/backup-record.ts'
import { objectsOf, readObjects } from '../catalog/read-objects.ts'
import { PgrecallError } from '../errors.ts'
import type { WriteOptions } from './write-backup.ts'

/**
 * Reads every object of a backup again, before it counts.
 * @throws PgrecallError `damaged` where one is not what was written
 */
export async function verifyWritten(
  draft: BackupDraft,
  { repository, jobs, events, signal }: Pick<WriteOptions, 'repository' | 'jobs' | 'events' | 'signal'>,
): Promise<void> {
  await readObjects(objectsOf(draft), {
    repository,
    jobs,
    task: 'Verifying',
    events,
    signal,
    onFault(key, reason) {
      throw new PgrecallError(
        'damaged',
        `${repository.storage.location}/${key} is damaged already: ${reason}`,
        {
          hint: 'look for a failing disk or store, and run this again; the chain is as it was',
        },
      )
    },
  })
}

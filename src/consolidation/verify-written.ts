import type { BackupDraft, BackupObject } from '../catalog/backup-record.ts'
import { backupPrefix } from '../catalog/layout.ts'
import { isAsRecorded, ObjectSum } from '../catalog/object-sum.ts'
import { isSealed } from '../catalog/sealed-object.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { sideBySide } from '../side-by-side.ts'
import type { WriteOptions } from './write-backup.ts'

/**
 * Reads every object of a backup again, before it counts.
 * @throws PgrecallError `damaged` where one is not what was written
 */
export async function verifyWritten(
  draft: BackupDraft,
  options: Pick<WriteOptions, 'repository' | 'jobs' | 'events' | 'signal'>,
): Promise<void> {
  const { jobs, events } = options
  const task = 'Verifying'
  const total = draft.objects.reduce((sum, object) => sum + object.bytes, 0)
  let bytes = 0
  let items = 0
  const onBytes = (count: number) => {
    bytes += count
    events.emit('progress', { task, bytes, total, items })
  }
  try {
    await sideBySide(draft.objects, jobs, async (object) => {
      await verifyObject(backupPrefix(draft.cluster, draft.id) + object.name, object, onBytes, options)
      items++
    })
  } finally {
    events.emit('progressEnd', { task })
  }
}

async function verifyObject(
  key: string,
  object: BackupObject,
  onBytes: (count: number) => void,
  { repository: { storage }, signal }: Pick<WriteOptions, 'repository' | 'signal'>,
): Promise<void> {
  const sum = new ObjectSum(isSealed(key))
  try {
    const stored = await storage.get(key, { signal })
    if (!stored) throw new Error('it is missing')
    for await (const chunk of stored) {
      sum.push(chunk)
      onBytes(chunk.length)
    }
    if (!isAsRecorded(object, sum.end())) throw new Error('its bytes are not those that were stored')
  } catch (error) {
    if (error instanceof PgrecallError) throw error
    signal.throwIfAborted()
    throw new PgrecallError('damaged', `${storage.location}/${key} is damaged already: ${reasonOf(error)}`, {
      hint: 'look for a failing disk or store, and run this again; the chain is as it was',
      cause: error,
    })
  }
}

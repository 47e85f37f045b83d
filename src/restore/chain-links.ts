import type { BackupObject, BackupRecord } from '../catalog/backup-record.ts'
import { backupPrefix } from '../catalog/layout.ts'
import { isAsRecorded, ObjectSum } from '../catalog/object-sum.ts'
import type { Repository } from '../catalog/repository.ts'
import { isSealed } from '../catalog/sealed-object.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { sideBySide } from '../side-by-side.ts'

export interface VerifyLinksContext {
  repository: Repository
  /** How many objects are read side by side. */
  jobs: number
  events: Events
  signal: AbortSignal
}

/**
 * Reads all objects of incremental backups, of which a restore reads parts only, and compares them with their stored sums.
 * Needs no secret key.
 * @throws PgrecallError `damaged`
 */
export async function verifyLinks(
  links: readonly BackupRecord[],
  { repository, jobs, events, signal }: VerifyLinksContext,
): Promise<void> {
  const objects = links.flatMap((link) =>
    link.objects.filter(({ kind }) => kind !== 'text').map((object) => ({ link, object })),
  )
  const task = 'Checking the chain'
  const total = objects.reduce((sum, { object }) => sum + object.bytes, 0)
  let bytes = 0
  let items = 0
  const onBytes = (count: number) => {
    bytes += count
    events.emit('progress', { task, bytes, total, items })
  }
  try {
    await sideBySide(objects, jobs, async ({ link, object }) => {
      await verifyObject(link, object, repository, signal, onBytes)
      items++
    })
  } finally {
    events.emit('progressEnd', { task })
  }
}

async function verifyObject(
  link: BackupRecord,
  object: BackupObject,
  { storage }: Repository,
  signal: AbortSignal,
  onBytes: (count: number) => void,
): Promise<void> {
  const key = backupPrefix(link.cluster, link.id) + object.name
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
    throw new PgrecallError('damaged', `object ${key} of backup ${link.id} is damaged: ${reasonOf(error)}`, {
      hint: 'restore from another repository, or from a backup below it; nothing was written',
      cause: error,
    })
  }
}

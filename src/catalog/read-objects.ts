import { PgrecallError, reasonOf } from '../errors.ts'
import type { Events } from '../events.ts'
import { sideBySide } from '../side-by-side.ts'
import type { StoredObject } from './backup-record.ts'
import { backupPrefix } from './layout.ts'
import { isAsRecorded, ObjectSum } from './object-sum.ts'
import type { Repository } from './repository.ts'
import { isSealed } from './sealed-object.ts'

/** An object of a backup, by its key in the repository. */
export interface KeyedObject {
  key: string
  object: StoredObject
}

export interface ReadObjectsOptions {
  repository: Repository
  /** How many objects are read side by side. */
  jobs: number
  /** What the progress is called. */
  task: string
  events: Events
  signal: AbortSignal
  /** Is told each object that is missing or damaged, and why; what it throws ends the reading. */
  onFault: (key: string, reason: string) => void
}

/** What of a record, of either kind, tells which objects there are. */
interface Listing {
  cluster: string
  id: string
  objects: readonly StoredObject[]
}

/** All objects of a backup. */
export function objectsOf({ cluster, id, objects }: Listing): KeyedObject[] {
  return objects.map((object) => ({ key: backupPrefix(cluster, id) + object.name, object }))
}

/**
 * Reads objects whole, and compares what is stored with the sums that were recorded. Needs no secret key.
 * @returns how many bytes were read
 * @throws PgrecallError `repository` when there is no answer
 */
export async function readObjects(
  objects: readonly KeyedObject[],
  { repository, jobs, task, events, signal, onFault }: ReadObjectsOptions,
): Promise<number> {
  const total = objects.reduce((sum, { object }) => sum + object.bytes, 0)
  let bytes = 0
  let items = 0
  const onBytes = (count: number) => {
    bytes += count
    events.emit('progress', { task, bytes, total, items })
  }
  try {
    await sideBySide(objects, jobs, async (stored) => {
      const reason = await faultOf(stored, repository, signal, onBytes)
      items++
      if (reason !== undefined) onFault(stored.key, reason)
    })
  } finally {
    events.emit('progressEnd', { task })
  }
  return bytes
}

/** @returns what is wrong with an object; undefined when every byte is as it was recorded */
async function faultOf(
  { key, object }: KeyedObject,
  { storage }: Repository,
  signal: AbortSignal,
  onBytes: (count: number) => void,
): Promise<string | undefined> {
  const sum = new ObjectSum(isSealed(key))
  try {
    const stored = await storage.get(key, { signal })
    if (!stored) return 'it is missing'
    for await (const chunk of stored) {
      sum.push(chunk)
      onBytes(chunk.length)
    }
    return isAsRecorded(object, sum.end()) ? undefined : 'its bytes are not those that were stored'
  } catch (error) {
    if (error instanceof PgrecallError) throw error
    signal.throwIfAborted()
    return reasonOf(error)
  }
}

import { SEAL_SUFFIX, type Sealer } from '../archive/age.ts'
import type { Storage } from '../storage/storage.ts'
import type { StoredObject } from './backup-record.ts'
import { ObjectSum } from './object-sum.ts'

export interface PutObjectOptions {
  /** Encrypts it; undefined where it lies in plain. */
  sealer: Sealer | undefined
  signal?: AbortSignal | undefined
}

/**
 * Stores an object of a backup, encrypted where a sealer is given.
 * @param folder the backup's, ending in `/`
 * @param plainName without `.age`, which is added where it is encrypted
 * @param pieces each may be reused as soon as the next one is asked for; what they throw leaves nothing stored
 * @returns its name, and the sums of what is stored
 */
export async function putObject(
  storage: Storage,
  folder: string,
  plainName: string,
  pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
  { sealer, signal }: PutObjectOptions,
): Promise<StoredObject> {
  const seal = await sealer?.seal()
  const name = seal ? plainName + SEAL_SUFFIX : plainName
  const sum = new ObjectSum(seal !== undefined)
  const stored = async function* () {
    if (seal) {
      sum.push(seal.header)
      yield seal.header
    }
    for await (const piece of seal ? seal.encrypt(pieces) : pieces) {
      sum.push(piece)
      yield piece
    }
  }
  // Locked when the backup is complete: what a killed run leaves must be removable.
  const options = { immutable: true, lockedLater: true, ...(signal && { signal }) }
  await storage.put(folder + name, stored(), options)
  return { name, ...sum.end() }
}

import { type WalForm, walKey } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { walForms } from '../catalog/wal-object.ts'
import { PgrecallError } from '../errors.ts'
import { readObject, type Storage } from '../storage/storage.ts'
import { decodeWalFile } from './stored-file.ts'
import { readStoredSum, type StoredSum } from './stored-sum.ts'
import { bytesOf, type WalParts } from './wal-parts.ts'

/** Whether an object is there, by a read which, other than a `stat`, ends when the signal says so. */
export async function isThere(
  storage: Storage,
  key: string,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const range = { offset: 0, length: 1 }
  return (await readObject(storage, key, { range, ...(signal && { signal }) })) !== undefined
}

/**
 * One conditional write: it decides between two hosts.
 * @param isReplacing whether what lies there is damaged, and makes room
 */
export async function storeParts(
  repository: Repository,
  cluster: string,
  parts: WalParts,
  signal: AbortSignal | undefined,
  isReplacing = false,
): Promise<'stored' | 'exists'> {
  const { storage } = repository
  const key = walKey(cluster, parts.file.name, walForms(repository)[0])
  const pieces = await parts.partsFor(repository)
  // A folder needs no copy of it; elsewhere only what is in one piece is sure to be one request.
  const source = storage.address.type === 'local' ? pieces : Buffer.concat(pieces)
  return storage.put(key, source, {
    ifAbsent: !isReplacing,
    immutable: true,
    ...(signal && { signal }),
  })
}

/**
 * Makes sure that what is stored under a file's name is the same file, by one small read, which needs no key.
 * @throws PgrecallError `conflict` for other bytes, `damaged` for what is not whole or not ours
 */
export async function requireSame(
  { name: repositoryName, storage }: Repository,
  cluster: string,
  parts: WalParts,
  form: WalForm,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { name } = parts.file
  const key = walKey(cluster, name, form)
  const stored = await readStoredSum(storage, key, form, signal)
  const isSame = stored?.digest === (stored && parts.sumWith(stored.salt))
  if (stored && isSame && (await isWhole(storage, key, stored, parts))) return
  if (!stored || isSame) {
    throw new PgrecallError(
      'damaged',
      `${storage.location}/${key} is there, but is not, or not all of, what pgrecall wrote; it was not overwritten`,
      { hint: 'move the object away and let PostgreSQL archive the segment again' },
    )
  }
  // The sum of an encrypted object is of use to nobody.
  const sums =
    form === 'plain'
      ? ` (SHA-256 ${stored.digest.slice(0, 16)}…, this file has ${parts.sha256.slice(0, 16)}…)`
      : ''
  throw new PgrecallError(
    'conflict',
    `${name} is already in repository "${repositoryName}" with other bytes${sums}; it was not overwritten`,
    {
      hint: 'two servers write into one archive, often after a clone or a failover: give this one a cluster name of its own, or stop the other',
    },
  )
}

/** A plain object of the usual size is believed; of another one, as another zstd makes it, it is read. */
async function isWhole(
  storage: Storage,
  key: string,
  { objectBytes }: StoredSum,
  { frames }: WalParts,
): Promise<boolean> {
  const bytes = (await storage.stat(key))?.bytes
  if (bytes === (objectBytes ?? bytesOf(frames))) return true
  if (objectBytes !== undefined) return false
  const object = await readObject(storage, key, { limit: 2 ** 31 - 1 })
  try {
    return object !== undefined && decodeWalFile(object) !== undefined
  } catch {
    return false
  }
}

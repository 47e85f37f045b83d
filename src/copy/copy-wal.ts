import { releaseMemory } from '../archive/codec.ts'
import { type WalForm, walKey } from '../catalog/layout.ts'
import { hasFormOf } from '../catalog/sealed-object.ts'
import { walForms } from '../catalog/wal-object.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { describeSegmentMismatch } from '../postgres/wal-page.ts'
import { readObject } from '../storage/storage.ts'
import { requireSame, storeParts } from '../wal/store-parts.ts'
import { decodeWalFile } from '../wal/stored-file.ts'
import { readStoredSum } from '../wal/stored-sum.ts'
import { WalParts } from '../wal/wal-parts.ts'
import { damagedObject, goneMeanwhile, namingTheObject, type Passage } from './passage.ts'
import type { StoredWal } from './plan.ts'

/** The largest object that is held in memory: a segment has at most 1 GiB. */
const LARGEST_OBJECT = 2 ** 31 - 1

/**
 * Copies a file of `pg_wal` by one conditional write. It is checked before: its SHA-256 and that it is what its name says, or, of
 * an encrypted one that no key of this host can read, that all of it is there.
 * @param isReplacing whether what the destination has under the name is damaged, and makes room
 * @returns `exists` when the archiver has stored the same file in the meantime
 * @throws PgrecallError `damaged`, `failed` when it went away, `conflict` for other bytes under the name, `key` when it has to be
 *   decrypted and no key fits
 */
export async function copyWalFile(
  passage: Passage,
  wal: StoredWal,
  isReplacing = false,
): Promise<'stored' | 'exists'> {
  const { from, to, cluster, signal } = passage
  const object = await readObject(from.storage, wal.key, { limit: LARGEST_OBJECT, signal })
  if (!object) throw goneMeanwhile(passage, wal.key)
  const isAlike = hasFormOf(to, wal.key, object)
  const plain = await checkedPlain(passage, wal, object, isAlike)
  passage.onBytes(object.length)
  try {
    const stored = isAlike
      ? await to.storage.put(walKey(cluster, wal.file.name, wal.form), object, {
          ifAbsent: !isReplacing,
          immutable: true,
          signal,
        })
      : await storeAnew(passage, wal, plain!, isReplacing)
    if (stored === 'exists') await requireSameAs(passage, wal, plain, walForms(to)[0])
    return stored
  } finally {
    if (plain) releaseMemory(plain)
  }
}

/**
 * Makes sure that a segment which both have is the same in both: where two servers have written WAL of their own, no segment
 * is alike from where they parted.
 * @returns false where they cannot be compared: of what is encrypted and cannot be read here, only that one is a copy of the
 *   other can be told
 * @throws PgrecallError `conflict`, `damaged`
 */
export async function requireOneArchive(passage: Passage, wal: StoredWal): Promise<boolean> {
  const { from, to, cluster, signal } = passage
  const object = await readObject(from.storage, wal.key, { limit: LARGEST_OBJECT, signal })
  if (!object) return false
  const plain = await checkedPlain(passage, wal, object, true)
  if (!plain) return isCopied(passage, wal)
  const isThere = async (form: WalForm) =>
    (await to.storage.stat(walKey(cluster, wal.file.name, form))) !== undefined
  const [first, second] = walForms(to)
  try {
    await requireSameAs(passage, wal, plain, (await isThere(first)) ? first : second)
    return true
  } finally {
    releaseMemory(plain)
  }
}

/** Whether the destination has the very same encrypted file: the salt of its sum is another one each time it is encrypted. */
async function isCopied({ from, to, cluster, signal }: Passage, { file, key }: StoredWal): Promise<boolean> {
  const [there, here] = await Promise.all([
    readStoredSum(from.storage, key, 'sealed', signal),
    readStoredSum(to.storage, walKey(cluster, file.name, 'sealed'), 'sealed', signal),
  ])
  return there !== undefined && here?.digest === there.digest && here.salt.equals(there.salt)
}

async function storeAnew(
  { to, cluster, level, signal }: Passage,
  { file }: StoredWal,
  plain: Buffer,
  isReplacing: boolean,
): Promise<'stored' | 'exists'> {
  const parts = new WalParts(file, plain, level)
  try {
    return await storeParts(to, cluster, parts, signal, isReplacing)
  } finally {
    await parts.release()
  }
}

/** @returns undefined for what is encrypted and need not be read, where no key of this host fits */
async function checkedPlain(
  passage: Passage,
  wal: StoredWal,
  object: Buffer,
  mayStayUnread: boolean,
): Promise<Buffer | undefined> {
  const content = wal.form === 'plain' ? object : await openedContent(passage, wal, object, mayStayUnread)
  if (!content) {
    await requireWhole(passage, wal, object)
    return undefined
  }
  const { file, key } = wal
  const plain = decoded(passage, key, content)
  const mismatch =
    file.kind === 'segment' || file.kind === 'partial' ? describeSegmentMismatch(file, plain) : undefined
  if (mismatch) throw damagedObject(passage, key, `is not the WAL that its name says: ${mismatch}`)
  return plain
}

async function openedContent(
  passage: Passage,
  { key }: StoredWal,
  object: Buffer,
  mayStayUnread: boolean,
): Promise<Buffer | undefined> {
  try {
    return await passage.from.keys.opener.openWhole(object)
  } catch (error) {
    if (mayStayUnread && error instanceof PgrecallError && error.kind === 'key') return undefined
    throw namingTheObject(error, passage, key)
  }
}

function decoded(passage: Passage, key: string, content: Buffer): Buffer {
  try {
    return decodeWalFile(content)
  } catch (error) {
    throw damagedObject(passage, key, `is damaged: ${reasonOf(error)}`)
  }
}

/** Without a key, the sizes that stand in the header are all that can be compared. */
async function requireWhole(passage: Passage, { key, form }: StoredWal, object: Buffer): Promise<void> {
  const sum = await readStoredSum(passage.from.storage, key, form, passage.signal)
  if (sum?.objectBytes === object.length) return
  throw damagedObject(passage, key, 'is not, or not all of, what pgrecall wrote')
}

/** Nothing is said of two encrypted files of which none can be read, unless one is a copy of the other. */
async function requireSameAs(
  { from, to, cluster, level, signal }: Passage,
  { file }: StoredWal,
  plain: Buffer | undefined,
  form: WalForm,
): Promise<void> {
  if (!plain) return
  const parts = new WalParts(file, plain, level)
  try {
    await requireSame(to, cluster, parts, form, signal)
  } catch (error) {
    if (!(error instanceof PgrecallError) || error.kind !== 'conflict') throw error
    throw new PgrecallError(
      'conflict',
      `${file.name} in repository "${from.name}" and in "${to.name}" have different bytes; nothing was overwritten`,
      {
        hint: 'two servers have archived WAL of their own, often after a clone or a failover: find out which of them is the right one, and give the other a cluster name of its own',
        cause: error,
      },
    )
  } finally {
    await parts.release()
  }
}

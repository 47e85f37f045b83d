import { parseCodec } from '../archive/codec.ts'
import type { BackupObject, BackupRecord, StoredObject } from '../catalog/backup-record.ts'
import { storeRecord, storeText } from '../catalog/commit-backup.ts'
import { handRestoreText } from '../catalog/hand-restore.ts'
import { lockObjects } from '../catalog/immutability.ts'
import { backupPrefix } from '../catalog/layout.ts'
import type { Lock } from '../catalog/lock.ts'
import { logicalRestoreText } from '../catalog/logical-hand-restore.ts'
import type { LogicalObject } from '../catalog/logical-record.ts'
import { indexName } from '../catalog/shard-index.ts'
import { inFormOf, isAlike } from '../copy/copy-backup.ts'
import { copyObject, type OtherForm } from '../copy/copy-object.ts'
import type { Passage } from '../copy/passage.ts'
import { PgrecallError } from '../errors.ts'
import type { Storage } from '../storage/storage.ts'
import type { AnyRecord } from './damage.ts'
import { plainNameOf, twinOf } from './twin.ts'

type AnyObject = BackupObject | LogicalObject

/**
 * Writes objects of a backup over damaged ones, each from the copy in another repository, which is checked while it is read. Where
 * they are encrypted or described in another way there, they get the form of this repository, and the record is written last, with
 * their new sums. Killed on the way, the objects are still, or again, told as damaged, and the next run repairs them.
 *
 * @param record of the damaged backup @param source of the same backup in the other repository
 * @param damaged names in the record
 * @returns the record as it is then
 * @throws PgrecallError `damaged` where the copy is damaged too, `key` where it has to be decrypted and no key fits, `failed`,
 *   `busy` when the lock is lost, `repository`
 */
export async function repairObjects<Kind extends AnyRecord>(
  passage: Passage,
  record: Kind,
  source: AnyRecord,
  damaged: readonly string[],
  lock: Lock,
): Promise<Kind> {
  const repaired = await replaceObjects(passage, record, source, damaged)
  if (!(record.objects as AnyObject[]).some(hasChanged(repaired))) return record
  await lock.confirm()
  return withRepaired(passage, record, repaired)
}

/**
 * The same without the record.
 * @returns the objects that were written, as they lie here now, by their names in the record
 * @throws PgrecallError as `repairObjects`
 */
export async function replaceObjects(
  passage: Passage,
  record: AnyRecord,
  source: AnyRecord,
  damaged: readonly string[],
): Promise<ReadonlyMap<string, AnyObject>> {
  const { to, signal } = passage
  const folder = backupPrefix(record.cluster, record.id)
  const repaired = new Map<string, AnyObject>()
  const objects = record.objects as AnyObject[]
  const isAmong = (names: readonly string[]) => (object: AnyObject) => names.includes(object.name)
  const heal = async (object: AnyObject, form: OtherForm) => {
    const twin = twinOf(object, source) as AnyObject | undefined
    if (!twin) throw noTwin(passage, folder + object.name)
    const isSame = twin.kind !== 'index' && (await isAlike(passage, folder + twin.name))
    repaired.set(object.name, await copyObject(passage, folder, twin, isSame ? undefined : form))
  }
  const others = objects.filter(isAmong(damaged)).filter(({ kind }) => kind !== 'index' && kind !== 'text')
  for (const object of others) await heal(object, { sealer: to.keys.sealer })
  if (record.method !== 'logical') {
    const indexes = [...damaged, ...indexesOf(record, others.filter(hasChanged(repaired)))]
    const form = formOfIndexes(passage, record, source, repaired)
    for (const object of objects.filter(isAmong(indexes)).filter(({ kind }) => kind === 'index'))
      await heal(object, form)
  }
  signal.throwIfAborted()
  const keys = [...repaired.values()].map(({ name }) => folder + name)
  await lockObjects(to, keys, new Date(), signal)
  return repaired
}

/** The instructions for a restore by hand, made anew. @returns the record as it is then */
export async function repairText<Kind extends AnyRecord>(
  passage: Passage,
  record: Kind,
  lock: Lock,
): Promise<Kind> {
  const folder = backupPrefix(record.cluster, record.id)
  const draft = { ...record, objects: (record.objects as AnyObject[]).filter(({ kind }) => kind !== 'text') }
  const stored = await storeText(passage.to.storage, folder, restoreTextOf(draft))
  await lockObjects(passage.to, [folder + stored.name], new Date(), passage.signal)
  const object: AnyObject = { ...stored, kind: 'text' }
  const repaired = new Map([[stored.name, object]])
  if (!(record.objects as AnyObject[]).some(hasChanged(repaired))) return record
  await lock.confirm()
  return withRepaired(passage, record, repaired)
}

/** @param draft without the text among its objects */
export const restoreTextOf = (draft: AnyRecord) =>
  draft.method === 'logical' ? logicalRestoreText(draft) : handRestoreText(draft)

/** Whether an object lies there now in another way than its record says. */
const hasChanged = (repaired: ReadonlyMap<string, AnyObject>) => (object: AnyObject) => {
  const now = repaired.get(object.name)
  return now !== undefined && (now.name !== object.name || now.sha256 !== object.sha256)
}

/** An index tells of its shard's sum. */
function indexesOf({ codec: text }: BackupRecord, shards: readonly AnyObject[]): string[] {
  const codec = parseCodec(text)
  if (typeof codec === 'string') return []
  return shards.flatMap(({ name, kind }) => {
    if (kind !== 'shard') return []
    const index = indexName(plainNameOf(name), codec)
    return [index, `${index}.age`]
  })
}

function formOfIndexes(
  { to }: Passage,
  record: BackupRecord,
  source: AnyRecord,
  repaired: ReadonlyMap<string, AnyObject>,
): OtherForm {
  const codec = parseCodec(record.codec)
  if (typeof codec === 'string') throw new PgrecallError('damaged', codec)
  const shardNamed = (name: string): StoredObject | undefined => {
    const there = (source.objects as AnyObject[]).find((object) => object.name === name)
    const here =
      there && record.objects.find((object) => plainNameOf(object.name) === plainNameOf(there.name))
    const stored = here && (repaired.get(here.name) ?? here)
    if (!stored) return undefined
    const { name: own, bytes, sha256, header } = stored
    return { name: own, bytes, sha256, ...(header && { header }) }
  }
  return { sealer: to.keys.sealer, index: { codec, shardNamed } }
}

async function withRepaired<Kind extends AnyRecord>(
  { to }: Passage,
  record: Kind,
  repaired: ReadonlyMap<string, AnyObject>,
): Promise<Kind> {
  const folder = backupPrefix(record.cluster, record.id)
  const objects = (record.objects as AnyObject[]).map((object) => repaired.get(object.name) ?? object)
  const isSealed = objects.some(({ header }) => header)
  const facts = isSealed ? inFormOf(to, record) : record
  const stored = await storeRecord(to.storage, folder, { ...facts, objects }, new Date(record.finishedAt))
  // What lay there in another form is no part of the backup any more.
  for (const { name } of record.objects)
    if (!objects.some((object) => object.name === name)) await removeReplaced(to.storage, folder + name)
  return stored as unknown as Kind
}

/** Removes an object whose place another form of it has taken. Where the store does not let it go, it is in nobody's way. */
export async function removeReplaced(storage: Storage, key: string): Promise<void> {
  await storage.remove(key).catch((error) => {
    if (!(error instanceof PgrecallError)) throw error
  })
}

function noTwin({ from }: Passage, key: string): PgrecallError {
  return new PgrecallError('damaged', `repository "${from.name}" has no object like ${key}`)
}

import { decode, methodOf } from '../archive/codec.ts'
import { nameFromBytes } from '../archive/file-name.ts'
import type { BackupObject, BackupRecord } from '../catalog/backup-record.ts'
import { backupPrefix } from '../catalog/layout.ts'
import { isAsRecorded, ObjectSum } from '../catalog/object-sum.ts'
import { isSealed, type ReadableRepository, readContent } from '../catalog/sealed-object.ts'
import { type CopiedFile, readShardIndex, type ShardHead } from '../catalog/shard-index.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { ManifestReader } from '../postgres/manifest-reader.ts'
import { FileSet } from './file-set.ts'

/**
 * Reads an index of a link, and checks its stored bytes.
 * @param onHead hears of the shard first @param onFile of each file
 * @throws PgrecallError `damaged`
 */
export async function readIndex(
  repository: ReadableRepository,
  link: BackupRecord,
  object: BackupObject,
  onHead: (head: ShardHead) => void,
  onFile: (file: CopiedFile) => void,
): Promise<void> {
  const key = backupPrefix(link.cluster, link.id) + object.name
  const sum = new ObjectSum(isSealed(key))
  try {
    const index = await readShardIndex(repository, key, (chunk) => sum.push(chunk))
    if (!index) throw new Error('it is missing')
    onHead(index.head)
    for await (const file of index.files) onFile(file)
    if (!isAsRecorded(object, sum.end())) throw new Error('its bytes are not those that were stored')
  } catch (error) {
    throw error instanceof PgrecallError ? error : damagedObject(link, object, error)
  }
}

/** The files that a link's manifest lists. @throws PgrecallError `damaged` */
export async function filesInManifest(repository: ReadableRepository, link: BackupRecord): Promise<FileSet> {
  const object = link.objects.find(({ kind }) => kind === 'manifest')
  if (!object) throw new PgrecallError('damaged', `the record of backup ${link.id} names no manifest`)
  const files = new FileSet()
  const reader = new ManifestReader(nameFromBytes, ({ path, size, checksum = '' }) =>
    files.add(path, size, checksum),
  )
  const sum = new ObjectSum(isSealed(object.name))
  try {
    const key = backupPrefix(link.cluster, link.id) + object.name
    const content = await readContent(repository, key, { onStored: (chunk) => sum.push(chunk) })
    if (!content) throw new Error('it is missing')
    for await (const piece of decode(methodOf(object.name), content)) reader.push(piece)
    reader.finish()
    if (!isAsRecorded(object, sum.end())) throw new Error('its bytes are not those that were stored')
  } catch (error) {
    throw error instanceof PgrecallError ? error : damagedObject(link, object, error)
  }
  return files
}

/** What an object of a link is called that is not what it must be. */
export function damagedObject(link: BackupRecord, { name }: { name: string }, cause: unknown): PgrecallError {
  return new PgrecallError(
    'damaged',
    `object ${backupPrefix(link.cluster, link.id)}${name} of backup ${link.id} is damaged: ${reasonOf(cause)}`,
    { hint: 'restore from another repository or from another backup', cause },
  )
}

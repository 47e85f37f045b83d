import type { BackupObject, BackupRecord } from '../catalog/backup-record.ts'
import { storeRecord, storeText } from '../catalog/commit-backup.ts'
import { lockNeeded, lockObjects } from '../catalog/immutability.ts'
import { backupPrefix } from '../catalog/layout.ts'
import type { Lock } from '../catalog/lock.ts'
import type { LogicalObject, LogicalRecord } from '../catalog/logical-record.ts'
import { inFormOf, requireNoRival } from '../copy/copy-backup.ts'
import type { Passage } from '../copy/passage.ts'
import type { AnyRecord } from './damage.ts'
import { removeReplaced, replaceObjects, restoreTextOf } from './repair-backup.ts'
import { plainNameOf } from './twin.ts'
import { verifyObject } from './verify-object.ts'

type AnyObject = BackupObject | LogicalObject

/**
 * Heals the record of a backup from that of the same backup in another repository. The objects that lie here as that record tells
 * stay as they are; only the others come from there, each durably over what is here; the record is written last. Nothing of the
 * backup is removed before. Killed on the way, or where an object is damaged there too, all that was sound here still is.
 *
 * @param source the record in the other repository
 * @throws PgrecallError as `repairObjects`; `busy` also while another host may still be copying the backup
 */
export async function repairRecord(passage: Passage, source: AnyRecord, lock: Lock): Promise<void> {
  const { to, signal } = passage
  const { cluster, id } = source
  const folder = backupPrefix(cluster, id)
  await requireNoRival(passage, id, lock)
  const differing = await differingHere(passage, source)
  const replaced = await replaceObjects(passage, source, source, differing)
  const objects = (source.objects as AnyObject[])
    .filter(({ kind }) => kind !== 'text')
    .map((object) => replaced.get(object.name) ?? object)
  const { storedBytes: _bytes, finishedAt, ...facts } = source
  const draft = { ...(differing.length > 0 ? inFormOf(to, facts) : facts), objects } as AnyRecord
  const text = await storeText(to.storage, folder, restoreTextOf(draft))
  const complete = { ...draft, objects: [...objects, { ...text, kind: 'text' }] } as AnyRecord
  const keys = complete.objects.map(({ name }) => folder + name)
  if (complete.method === 'logical') await lockObjects(to, keys, new Date(), signal)
  else await lockNeeded(to, complete, new Date(), signal)
  signal.throwIfAborted()
  await lock.confirm()
  await storeRecord<LogicalRecord | BackupRecord>(to.storage, folder, complete, new Date(finishedAt))
  await removeOtherForms(passage, folder, complete)
}

/** Names of the objects that are not here, or are not what the record tells. Each is read whole. */
async function differingHere({ to, signal }: Passage, source: AnyRecord): Promise<string[]> {
  const folder = backupPrefix(source.cluster, source.id)
  const differing: string[] = []
  for (const object of source.objects as AnyObject[]) {
    if (object.kind === 'text') continue
    const job = { kind: 'object', key: folder + object.name, object, decode: false } as const
    const { faults } = await verifyObject(to, job, () => signal.throwIfAborted())
    if (faults.length > 0) differing.push(object.name)
  }
  return differing
}

/** What the backup was here before, encrypted in another way than the record tells now, is no part of it any more. */
async function removeOtherForms({ to }: Passage, folder: string, record: AnyRecord): Promise<void> {
  const own = new Set(record.objects.map(({ name }) => name))
  const plain = new Set([...own].map(plainNameOf))
  for await (const { key } of to.storage.list(folder)) {
    const name = key.slice(folder.length)
    if (!own.has(name) && plain.has(plainNameOf(name))) await removeReplaced(to.storage, key)
  }
}

import { isDeepStrictEqual } from 'node:util'
import { Sealer } from '../archive/age.ts'
import type { BackupRecord } from '../catalog/backup-record.ts'
import { storeRecord, storeRestoreText, storeText } from '../catalog/commit-backup.ts'
import { backupPrefix, backupRecordKey } from '../catalog/layout.ts'
import { logicalRestoreText } from '../catalog/logical-hand-restore.ts'
import type { LogicalRecord } from '../catalog/logical-record.ts'
import type { Storage } from '../storage/storage.ts'
import type { HeaderFacts } from './rewrap.ts'

/** The record of a backup of either kind. */
export type RotatableRecord = BackupRecord | LogicalRecord

/**
 * What a backup's record says after a rotation. Sizes follow from the record and not from what is stored, so that an object
 * of a wrong size stays one.
 * @param headers by the object's name; undefined for one that is not for the present recipients
 * @returns undefined where the record says so already
 */
export function rotatedRecord<Kind extends RotatableRecord>(
  record: Kind,
  headers: ReadonlyMap<string, HeaderFacts | undefined>,
  sealer: Sealer,
): Kind | undefined {
  const objects = record.objects.map((object: Kind['objects'][number]) => {
    const header = headers.get(object.name)
    if (!object.header || !header) return object
    return { ...object, bytes: object.bytes - object.header.bytes + header.bytes, header }
  })
  const isWhole = ![...headers.values()].includes(undefined)
  const isForOthers = record.recipients && new Sealer(record.recipients).fingerprint !== sealer.fingerprint
  const recipients = isWhole && isForOthers ? [...sealer.recipients] : record.recipients
  const rotated = { ...record, objects, ...(recipients && { recipients }) }
  return isDeepStrictEqual(rotated, record) ? undefined : rotated
}

/**
 * Stores it: first `RESTORE.txt`, which names the recipients, and last the record, which tells whether all was done. Both
 * are locked as long as what they replace, where the store locks.
 */
export async function storeRotatedRecord(storage: Storage, record: RotatableRecord): Promise<void> {
  const folder = backupPrefix(record.cluster, record.id)
  const texts = record.objects.filter(({ kind }) => kind === 'text').map(({ name }) => folder + name)
  const keys = [...texts, backupRecordKey(record.cluster, record.id)]
  const replaced = await Promise.all(keys.map((key) => storage.stat(key)))
  const draft =
    record.method === 'logical'
      ? await withLogicalText(storage, folder, record)
      : await storeRestoreText(storage, folder, withoutText(record))
  await storeRecord(storage, folder, draft, new Date(record.finishedAt), { lockedLater: true })
  for (const facts of replaced) {
    if (facts?.lockedUntil) await storage.lockUntil(facts.key, facts.lockedUntil)
  }
}

/** The record with objects but for `RESTORE.txt`, which is written anew. */
function withoutText<Kind extends RotatableRecord>(record: Kind): Kind {
  return {
    ...record,
    objects: record.objects.filter(({ kind }: Kind['objects'][number]) => kind !== 'text'),
  }
}

async function withLogicalText(
  storage: Storage,
  folder: string,
  record: LogicalRecord,
): Promise<LogicalRecord> {
  const draft = withoutText(record)
  const text = await storeText(storage, folder, logicalRestoreText(draft))
  return { ...draft, objects: [...draft.objects, { ...text, kind: 'text' }] }
}

import { createHash } from 'node:crypto'
import type { PutOptions, Storage } from '../storage/storage.ts'
import { type BackupDraft, type BackupRecord, encodeBackupRecord } from './backup-record.ts'
import { handRestoreText } from './hand-restore.ts'

/** `RESTORE.txt`; gives the record with it among the objects. */
export async function storeRestoreText<Draft extends BackupDraft>(
  storage: Storage,
  folder: string,
  draft: Draft,
): Promise<Draft> {
  const text = Buffer.from(handRestoreText(draft))
  const name = 'RESTORE.txt'
  await storage.put(folder + name, text, { immutable: true, lockedLater: true })
  const sha256 = createHash('sha256').update(text).digest('hex')
  return { ...draft, objects: [...draft.objects, { name, kind: 'text', bytes: text.length, sha256 }] }
}

/** `backup.json`: from here on the backup exists. */
export async function storeRecord(
  storage: Storage,
  folder: string,
  draft: BackupDraft,
  finishedAt: Date,
  options: Pick<PutOptions, 'lockedLater'> = {},
): Promise<BackupRecord> {
  const storedBytes = draft.objects.reduce((sum, object) => sum + object.bytes, 0)
  const record = { ...draft, storedBytes, finishedAt: finishedAt.toISOString() }
  await storage.put(`${folder}backup.json`, encodeBackupRecord(record), { immutable: true, ...options })
  return record
}

import { createHash } from 'node:crypto'
import type { PutOptions, Storage } from '../storage/storage.ts'
import type { BackupDraft, StoredObject } from './backup-record.ts'
import { handRestoreText } from './hand-restore.ts'
import { encodeRecord } from './record-file.ts'

/** What a record of either kind has before its backup exists. */
type Draft = { objects: readonly StoredObject[] }

/** `RESTORE.txt`; gives the record with it among the objects. */
export async function storeRestoreText<Kind extends BackupDraft>(
  storage: Storage,
  folder: string,
  draft: Kind,
): Promise<Kind> {
  const object = { ...(await storeText(storage, folder, handRestoreText(draft))), kind: 'text' as const }
  return { ...draft, objects: [...draft.objects, object] }
}

/** `RESTORE.txt` as it is given. Never encrypted. */
export async function storeText(storage: Storage, folder: string, content: string): Promise<StoredObject> {
  const text = Buffer.from(content)
  const name = 'RESTORE.txt'
  await storage.put(folder + name, text, { immutable: true, lockedLater: true })
  return { name, bytes: text.length, sha256: createHash('sha256').update(text).digest('hex') }
}

/** `backup.json`: from here on the backup exists. */
export async function storeRecord<Kind extends Draft>(
  storage: Storage,
  folder: string,
  draft: Kind,
  finishedAt: Date,
  options: Pick<PutOptions, 'lockedLater'> = {},
): Promise<Kind & { storedBytes: number; finishedAt: string }> {
  const storedBytes = draft.objects.reduce((sum, object) => sum + object.bytes, 0)
  const record = { ...draft, storedBytes, finishedAt: finishedAt.toISOString() }
  await storage.put(`${folder}backup.json`, encodeRecord(record), { immutable: true, ...options })
  return record
}

import { storeRecord, storeText } from '../catalog/commit-backup.ts'
import { lockObjects } from '../catalog/immutability.ts'
import { backupPrefix, backupRecordKey } from '../catalog/layout.ts'
import type { Lock } from '../catalog/lock.ts'
import { logicalRestoreText } from '../catalog/logical-hand-restore.ts'
import {
  type LogicalDraft,
  type LogicalObject,
  type LogicalRecord,
  readLogicalRecord,
} from '../catalog/logical-record.ts'
import { sideBySide } from '../side-by-side.ts'
import { inFormOf, isAlike, RESTORE_TEXT, requireNoRival } from './copy-backup.ts'
import { copyObject } from './copy-object.ts'
import { CopyLedger } from './ledger.ts'
import { goneMeanwhile, type Passage } from './passage.ts'

export interface CopiedLogical {
  record: LogicalRecord
  /** Bytes of its objects that an earlier run had copied already. */
  resumedBytes: number
}

/**
 * Copies a logical backup: its dumps and what belongs to them, and last its record. It needs no WAL and no other backup.
 * Compression stays as it is. Stopped before the record, it leaves debris with which the next run goes on.
 * @throws as `copyBackup`
 */
export async function copyLogical(passage: Passage, id: string, lock: Lock): Promise<CopiedLogical> {
  const { from, to, cluster, signal } = passage
  const folder = backupPrefix(cluster, id)
  const record = await readLogicalRecord(from.storage, cluster, id)
  if (!record) throw goneMeanwhile(passage, backupRecordKey(cluster, id))
  await requireNoRival(passage, id, lock)
  const ledger = await CopyLedger.open<LogicalObject>(to, record, folder)
  const { objects, resumedBytes } = await copyObjects(passage, folder, record, ledger)
  const { storedBytes: _bytes, finishedAt, ...facts } = record
  const draft: LogicalDraft = { ...inFormOf(to, facts), objects }
  const text = await storeText(to.storage, folder, logicalRestoreText(draft))
  const complete: LogicalDraft = { ...draft, objects: [...objects, { ...text, kind: 'text' }] }
  await ledger.remove()
  signal.throwIfAborted()
  await lockObjects(
    to,
    complete.objects.map(({ name }) => folder + name),
    new Date(),
    signal,
  )
  await lock.confirm()
  return { record: await storeRecord(to.storage, folder, complete, new Date(finishedAt)), resumedBytes }
}

async function copyObjects(
  passage: Passage,
  folder: string,
  { objects }: LogicalRecord,
  ledger: CopyLedger<LogicalObject>,
) {
  let resumedBytes = 0
  const form = { sealer: passage.to.keys.sealer }
  const copied = await sideBySide(
    objects.filter(({ name }) => name !== RESTORE_TEXT),
    passage.jobs,
    async (object) => {
      const known = await ledger.find(object)
      if (known) {
        resumedBytes += known.bytes
        passage.onBytes(object.bytes)
        return known
      }
      const isSame = await isAlike(passage, folder + object.name)
      const stored = await copyObject(passage, folder, object, isSame ? undefined : form)
      await ledger.add(object, stored)
      return stored
    },
  )
  return { objects: copied, resumedBytes }
}

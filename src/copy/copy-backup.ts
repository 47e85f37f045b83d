import { SEAL_HEADER_READ_BYTES } from '../archive/age.ts'
import { parseCodec } from '../archive/codec.ts'
import {
  type BackupDraft,
  type BackupObject,
  type BackupRecord,
  readBackupRecord,
} from '../catalog/backup-record.ts'
import { debrisOf } from '../catalog/catalog.ts'
import { storeRecord, storeRestoreText } from '../catalog/commit-backup.ts'
import { lockNeeded } from '../catalog/immutability.ts'
import { backupPrefix, backupRecordKey } from '../catalog/layout.ts'
import type { Lock } from '../catalog/lock.ts'
import type { Repository } from '../catalog/repository.ts'
import { hasFormOf, isSealed } from '../catalog/sealed-object.ts'
import { PgrecallError } from '../errors.ts'
import { sideBySide } from '../side-by-side.ts'
import { readObject } from '../storage/storage.ts'
import { copyObject, type OtherForm } from './copy-object.ts'
import { CopyLedger } from './ledger.ts'
import { goneMeanwhile, type Passage } from './passage.ts'

/** Written by the destination itself. */
export const RESTORE_TEXT = 'RESTORE.txt'

export interface CopiedBackup {
  record: BackupRecord
  /** Bytes of its objects that an earlier run had copied already. */
  resumedBytes: number
}

/**
 * Copies a backup: its shards, what describes them, and last its record. Stopped before that, it leaves debris with which the
 * next run goes on.
 * @throws PgrecallError `damaged` when something of it is not what was recorded: then it does not exist in the destination;
 *   `key` when it has to be decrypted and no key fits; `busy` when the lock is lost
 */
export async function copyBackup(passage: Passage, id: string, lock: Lock): Promise<CopiedBackup> {
  const { from, to, cluster } = passage
  const folder = backupPrefix(cluster, id)
  const record = await readBackupRecord(from.storage, cluster, id)
  if (!record) throw goneMeanwhile(passage, backupRecordKey(cluster, id))
  await requireNoRival(passage, id, lock)
  const ledger = await CopyLedger.open<BackupObject>(to, record, folder)
  const { objects, resumedBytes } = await copyObjects(passage, folder, record, ledger)
  const { storedBytes: _bytes, finishedAt, ...facts } = record
  const draft: BackupDraft = { ...inFormOf(to, facts), objects }
  const complete = await storeRestoreText(to.storage, folder, draft)
  await ledger.remove()
  passage.signal.throwIfAborted()
  await lockNeeded(to, complete, new Date(), passage.signal)
  await lock.confirm()
  return { record: await storeRecord(to.storage, folder, complete, new Date(finishedAt)), resumedBytes }
}

/** Says for whom the objects are encrypted in the destination. */
export function inFormOf<Facts extends { recipients?: string[] | undefined }>(
  { keys: { sealer } }: Repository,
  facts: Facts,
): Facts {
  if (sealer) return { ...facts, recipients: [...sealer.recipients] }
  const { recipients: _recipients, ...plain } = facts
  return plain as Facts
}

/** Whoever fell silent may wake up and write on for a moment; what two encrypt is not alike. */
export async function requireNoRival({ to, cluster }: Passage, id: string, lock: Lock): Promise<void> {
  if (!lock.mayHaveRival || !(await debrisOf(to.storage, cluster)).includes(id)) return
  throw new PgrecallError(
    'busy',
    `another host may still be copying backup ${id} to repository "${to.name}"`,
    {
      hint: 'its lock was silent for minutes and was broken; run this again',
    },
  )
}

async function copyObjects(
  passage: Passage,
  folder: string,
  record: BackupRecord,
  ledger: CopyLedger<BackupObject>,
) {
  const copied = new Map<string, BackupObject>()
  let resumedBytes = 0
  const form = formFor(passage, record, copied)
  const copy = async (object: BackupObject, isAlike: boolean) => {
    const known = await ledger.find(object)
    if (known) {
      resumedBytes += known.bytes
      passage.onBytes(object.bytes)
    }
    const stored = known ?? (await copyObject(passage, folder, object, isAlike ? undefined : form))
    copied.set(object.name, stored)
    if (!known) await ledger.add(object, stored)
  }
  const objects = record.objects.filter(({ name }) => name !== RESTORE_TEXT)
  // Where there is an index there is a whole shard: a backup that finds debris relies on it.
  const [indexes, others] = [objects.filter(isIndex), objects.filter((object) => !isIndex(object))]
  await sideBySide(others, passage.jobs, async (object) =>
    copy(object, await isAlike(passage, folder + object.name)),
  )
  // They are encrypted for one key more, of the run that made them; what counts is whether the shards are as they say.
  const isUnchanged = others.every(({ name, sha256 }) => copied.get(name)!.sha256 === sha256)
  await sideBySide(indexes, passage.jobs, (object) => copy(object, isUnchanged))
  return { objects: objects.map(({ name }) => copied.get(name)!), resumedBytes }
}

const isIndex = ({ kind }: BackupObject) => kind === 'index'

/** Whether the stored bytes can be taken as they are, without any key. */
export async function isAlike({ from, to, signal }: Passage, key: string): Promise<boolean> {
  const range = { offset: 0, length: SEAL_HEADER_READ_BYTES }
  return hasFormOf(
    to,
    key,
    isSealed(key) ? await readObject(from.storage, key, { range, signal }) : undefined,
  )
}

function formFor(
  { to }: Passage,
  { codec: text }: BackupRecord,
  copied: ReadonlyMap<string, BackupObject>,
): OtherForm {
  const codec = parseCodec(text)
  if (typeof codec === 'string') throw new PgrecallError('damaged', codec)
  const shardNamed = (source: string) => {
    const shard = copied.get(source)
    if (!shard) return undefined
    const { name, bytes, sha256, header } = shard
    return { name, bytes, sha256, ...(header && { header }) }
  }
  return { sealer: to.keys.sealer, index: { codec, shardNamed } }
}

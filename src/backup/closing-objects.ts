import { createHash } from 'node:crypto'
import { type Codec, codecSuffix, compressFrame } from '../archive/codec.ts'
import { nameToBytes } from '../archive/file-name.ts'
import { FRAME_BYTES } from '../archive/shard-writer.ts'
import { type BackupObject, type BackupRecord, encodeBackupRecord } from '../catalog/backup-record.ts'
import { pathInCluster } from '../catalog/layout.ts'
import { PgrecallError } from '../errors.ts'
import { type ManifestFile, writeManifest } from '../postgres/manifest.ts'
import type { Storage } from '../storage/storage.ts'
import type { BackupDraft } from './draft-record.ts'
import { handRestoreText } from './hand-restore.ts'
import type { BackupRun, Taken } from './method.ts'
import { CONTROL_FILE } from './scan.ts'
import { type OpenShard, type StoredShard, shardName, storeShard } from './shard.ts'
import { readShardIndex } from './shard-index.ts'

/**
 * The last shard of the data directory: `backup_label`, which only exists once the backup is over, and `pg_control`,
 * which is written in place and so is read whole, and put back last in a restore.
 * @param label undefined for a cluster that was shut down: it needs none
 * @param earlier the number of the last shard of the data directory so far
 */
export function storeControlShard(
  { repository, folder, request: { codec } }: BackupRun,
  content: { label: string | undefined; control: Buffer; owner: { uid: number; gid: number } },
  earlier: number,
): Promise<StoredShard> {
  const { label, control, owner } = content
  const fill = function* (shard: OpenShard) {
    if (label !== undefined) yield* addContent(shard, 'backup_label', Buffer.from(label), owner)
    yield* addContent(shard, CONTROL_FILE, control, owner)
  }
  const name = shardName('base', earlier + 1, codec)
  return storeShard(repository.storage, folder, { name, group: 'base', codec }, fill)
}

function* addContent(
  { writer, add }: OpenShard,
  path: string,
  content: Buffer,
  owner: { uid: number; gid: number },
): Generator<Buffer> {
  const modifiedMs = Date.now()
  const member = { path, type: 'file' as const, size: content.length, mode: 0o600, mtime: modifiedMs / 1000 }
  let at = 0
  const fill = (room: Buffer) => {
    const copied = content.copy(room, 0, at)
    at += copied
    return copied
  }
  const offset = yield* writer.member({ ...member, uid: owner.uid, gid: owner.gid }, fill)
  const sha256 = createHash('sha256').update(content).digest('hex')
  add({ path, size: content.length, modifiedMs, sha256, offset }, false)
}

/** `backup_manifest`, in PostgreSQL's format: all files of all shards, as their indexes have them. */
export function storeManifest(
  { repository, folder, request }: BackupRun,
  taken: Taken,
): Promise<BackupObject> {
  const { codec } = request
  const files = async function* (): AsyncIterable<ManifestFile> {
    for (const { group, index } of taken.shards) {
      if (group === 'wal') continue
      const stored = await readShardIndex(repository.storage, folder + index.name)
      if (!stored) throw new PgrecallError('damaged', `${folder}${index.name} is gone again`)
      for await (const file of stored.files) yield { ...file, path: pathInCluster(group, file.path) }
    }
  }
  const { timeline, start, stop } = taken.ends
  // A cluster that was shut down replays nothing.
  const ranges = taken.ends.label === undefined ? [] : [{ timeline, start: start.lsn, end: stop.lsn }]
  const text = writeManifest(taken.facts, files(), ranges, nameToBytes)
  return storeFrames(
    repository.storage,
    folder,
    `backup_manifest${codecSuffix(codec)}`,
    'manifest',
    codec,
    text,
  )
}

/** `RESTORE.txt`; gives the record with it among the objects. */
export async function storeRestoreText<Draft extends BackupDraft>(
  storage: Storage,
  folder: string,
  draft: Draft,
): Promise<Draft> {
  const text = [Buffer.from(handRestoreText(draft))]
  const object = await storeFrames(storage, folder, 'RESTORE.txt', 'text', { method: 'none' }, text)
  return { ...draft, objects: [...draft.objects, object] }
}

/** `backup.json`: from here on the backup exists. */
export async function storeRecord(
  storage: Storage,
  folder: string,
  draft: BackupDraft,
  finishedAt: Date,
): Promise<BackupRecord> {
  const storedBytes = draft.objects.reduce((sum, object) => sum + object.bytes, 0)
  const record = { ...draft, storedBytes, finishedAt: finishedAt.toISOString() }
  await storage.put(`${folder}backup.json`, encodeBackupRecord(record))
  return record
}

async function storeFrames(
  storage: Storage,
  folder: string,
  name: string,
  kind: BackupObject['kind'],
  codec: Codec,
  pieces: Iterable<Buffer> | AsyncIterable<Buffer>,
): Promise<BackupObject> {
  const sum = createHash('sha256')
  let bytes = 0
  const frames = async function* () {
    for await (const plain of gather(pieces)) {
      const frame = compressFrame(codec, plain)
      sum.update(frame)
      bytes += frame.length
      yield frame
    }
  }
  await storage.put(folder + name, frames())
  return { name, kind, bytes, sha256: sum.digest('hex') }
}

/** Small pieces gathered into frames. */
async function* gather(pieces: Iterable<Buffer> | AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let gathered: Buffer[] = []
  let bytes = 0
  for await (const piece of pieces) {
    gathered.push(piece)
    bytes += piece.length
    if (bytes < FRAME_BYTES) continue
    yield Buffer.concat(gathered)
    gathered = []
    bytes = 0
  }
  if (bytes > 0) yield Buffer.concat(gathered)
}

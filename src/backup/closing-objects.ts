import { createHash } from 'node:crypto'
import { lstat } from 'node:fs/promises'
import { type Codec, codecSuffix, compressFrame } from '../archive/codec.ts'
import { nameToBytes } from '../archive/file-name.ts'
import { FRAME_BYTES, type ShardWriter } from '../archive/shard-writer.ts'
import { type BackupObject, type BackupRecord, encodeBackupRecord } from '../catalog/backup-record.ts'
import type { BackupStart, BackupStop } from '../postgres/low-level-backup.ts'
import { type ManifestFile, writeManifest } from '../postgres/manifest.ts'
import type { ServerFacts } from '../postgres/server.ts'
import type { Storage } from '../storage/storage.ts'
import { shardName } from './copy-pool.ts'
import type { BackupDraft } from './draft-record.ts'
import { handRestoreText } from './hand-restore.ts'
import { readStableControlFile } from './preflight.ts'
import { CONTROL_FILE } from './scan.ts'
import { type CopiedFile, type StoredShard, storeShard } from './shard.ts'

/**
 * The last shard of the data directory: `backup_label`, which only exists once the backup is over, and `pg_control`,
 * which is written in place and so is read whole, and put back last in a restore.
 */
export async function storeControlShard(
  storage: Storage,
  folder: string,
  codec: Codec,
  facts: ServerFacts,
  backupLabel: string,
  earlier: readonly StoredShard[],
): Promise<StoredShard> {
  const { bytes } = await readStableControlFile(facts.dataDirectory)
  const owner = await lstat(facts.dataDirectory)
  const number = earlier.filter((shard) => shard.group === 'base').length + 1
  const fill = function* (writer: ShardWriter, files: CopiedFile[]) {
    yield* addContent(writer, files, 'backup_label', Buffer.from(backupLabel), owner)
    yield* addContent(writer, files, CONTROL_FILE, bytes, owner)
  }
  return storeShard(storage, folder, { name: shardName('base', number, codec), group: 'base', codec }, fill)
}

function* addContent(
  writer: ShardWriter,
  files: CopiedFile[],
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
  files.push({ path, size: content.length, modifiedMs, sha256, offset })
}

/** `backup_manifest`, in PostgreSQL's format. */
export function storeManifest(
  storage: Storage,
  folder: string,
  codec: Codec,
  facts: ServerFacts,
  shards: readonly StoredShard[],
  range: { start: BackupStart; stop: BackupStop },
): Promise<BackupObject> {
  const files = function* (): Iterable<ManifestFile> {
    for (const shard of shards) {
      if (shard.group === 'wal') continue
      for (const file of shard.files) yield { ...file, path: pathInCluster(shard.group, file.path) }
    }
  }
  const ranges = [{ timeline: range.start.timeline, start: range.start.lsn, end: range.stop.lsn }]
  const text = writeManifest(facts, files(), ranges, nameToBytes)
  return storeFrames(storage, folder, `backup_manifest${codecSuffix(codec)}`, 'manifest', codec, text)
}

/**
 * `index.jsonl`: where each file lies. A line for each shard with the offsets of its frames in the object, followed by
 * a line for each of its files with the offset of the content in the tar stream. It only saves reading.
 */
export function storeIndex(
  storage: Storage,
  folder: string,
  codec: Codec,
  shards: readonly StoredShard[],
): Promise<BackupObject> {
  const lines = function* () {
    for (const { name, group, frameOffsets, files } of shards) {
      yield Buffer.from(
        `${JSON.stringify({ shard: name, group, frameBytes: FRAME_BYTES, frames: frameOffsets })}\n`,
      )
      for (const { path, size, offset, sha256 } of files) {
        const name = path.isWellFormed() ? { path } : { encodedPath: nameToBytes(path).toString('hex') }
        yield Buffer.from(`${JSON.stringify({ ...name, size, offset, sha256 })}\n`)
      }
    }
  }
  return storeFrames(storage, folder, `index.jsonl${codecSuffix(codec)}`, 'index', codec, lines())
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

/** A file's path in the data directory. */
function pathInCluster(group: string, path: string): string {
  return group === 'base' ? path : `pg_tblspc/${group}/${path}`
}

async function storeFrames(
  storage: Storage,
  folder: string,
  name: string,
  kind: BackupObject['kind'],
  codec: Codec,
  pieces: Iterable<Buffer>,
): Promise<BackupObject> {
  const sum = createHash('sha256')
  let bytes = 0
  const frames = function* () {
    for (const plain of gather(pieces)) {
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
function* gather(pieces: Iterable<Buffer>): Generator<Buffer> {
  let gathered: Buffer[] = []
  let bytes = 0
  for (const piece of pieces) {
    gathered.push(piece)
    bytes += piece.length
    if (bytes < FRAME_BYTES) continue
    yield Buffer.concat(gathered)
    gathered = []
    bytes = 0
  }
  if (bytes > 0) yield Buffer.concat(gathered)
}

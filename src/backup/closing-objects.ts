import { createHash } from 'node:crypto'
import { type Codec, codecSuffix } from '../archive/codec.ts'
import { compressed } from '../archive/compressed.ts'
import { nameToBytes } from '../archive/file-name.ts'
import { pathInCluster } from '../catalog/layout.ts'
import { type CopiedFile, readShardIndex } from '../catalog/shard-index.ts'
import { PgrecallError } from '../errors.ts'
import type { Lsn } from '../postgres/lsn.ts'
import { type ManifestFile, type ManifestHead, writeManifest } from '../postgres/manifest.ts'
import type { BackupStore, StoredIn } from './backup-store.ts'
import type { BackupRun } from './method.ts'
import { CONTROL_FILE } from './scan.ts'
import { type OpenShard, type StoredShard, shardName, storeShard } from './shard.ts'

/** What of a run is needed to store something. */
interface StoringRun {
  store: BackupStore
  request: { codec: Codec }
}

/** A shard of nothing but folders. @param owner whose they are to be */
export function storeFolders(
  { store, request: { codec } }: StoringRun,
  name: string,
  group: string,
  folders: readonly { path: string; mode: number }[],
  { uid, gid }: { uid: number; gid: number },
): Promise<StoredShard> {
  const mtime = Date.now() / 1000
  const fill = function* ({ writer }: OpenShard) {
    for (const folder of folders)
      yield* writer.member({ ...folder, type: 'directory', size: 0, mtime, uid, gid })
  }
  return storeShard(store, { name, group, codec }, fill)
}

/**
 * The last shard of the data directory: `backup_label`, which only exists once the backup is over, and `pg_control`,
 * which is written in place and so is read whole, and put back last in a restore.
 * @param label undefined for a cluster that was shut down: it needs none
 * @param earlier the number of the last shard of the data directory so far
 */
export function storeControlShard(
  { store, request: { codec } }: StoringRun,
  content: { label: string | undefined; control: Buffer; owner: { uid: number; gid: number } },
  earlier: number,
): Promise<StoredShard> {
  const { label, control, owner } = content
  const fill = function* (shard: OpenShard) {
    if (label !== undefined) yield* addContent(shard, 'backup_label', Buffer.from(label), owner)
    yield* addContent(shard, CONTROL_FILE, control, owner)
  }
  const name = shardName('base', earlier + 1, codec)
  return storeShard(store, { name, group: 'base', codec }, fill)
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

/** What a manifest is made of. */
interface Listed {
  shards: readonly StoredShard[]
  facts: ManifestHead
  ends: { timeline: number; start: { lsn: Lsn }; stop: { lsn: Lsn }; label: string | undefined }
}

/** `backup_manifest`, in PostgreSQL's format: all files of all shards, as their indexes have them. */
export async function storeManifest(
  { store, request, indexIdentities }: StoringRun & Pick<BackupRun, 'indexIdentities'>,
  taken: Listed,
): Promise<{ stored: StoredIn; clusterBytes: number }> {
  const { codec } = request
  let clusterBytes = 0
  const files = async function* (): AsyncIterable<ManifestFile> {
    for (const { group, index } of taken.shards) {
      if (group === 'wal') continue
      for await (const file of filesOf(store, index, indexIdentities)) {
        clusterBytes += file.fileSize ?? file.size
        yield { ...file, path: pathInCluster(group, file.path) }
      }
    }
  }
  const { timeline, start, stop } = taken.ends
  // A cluster that was shut down replays nothing.
  const ranges = taken.ends.label === undefined ? [] : [{ timeline, start: start.lsn, end: stop.lsn }]
  const text = writeManifest(taken.facts, files(), ranges, nameToBytes)
  const stored = await store.put(`backup_manifest${codecSuffix(codec)}`, compressed(codec, text))
  return { stored, clusterBytes }
}

/** What an index lists, read from the first repository; one that does not give it to its end is given up for the next. */
async function* filesOf(
  store: BackupStore,
  index: StoredIn,
  identities: BackupRun['indexIdentities'],
): AsyncGenerator<CopiedFile> {
  let given = 0
  let failure: unknown
  for (const { name, storage, keys } of store.repositories) {
    try {
      const key = store.folder + index[name]!.name
      const stored = await readShardIndex({ storage, keys: { opener: keys.opener.with(identities) } }, key)
      if (!stored) throw new PgrecallError('damaged', `${key} is gone again`)
      let passed = 0
      for await (const file of stored.files) {
        if (++passed <= given) continue
        given++
        yield file
      }
      return
    } catch (error) {
      failure = error
      store.lose(name, error)
    }
  }
  throw failure ?? new Error('no repository is left')
}

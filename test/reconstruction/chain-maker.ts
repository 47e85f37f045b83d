import { hash } from 'node:crypto'
import { type Codec, codecSuffix, compressFrame } from '../../src/archive/codec.ts'
import { nameToBytes } from '../../src/archive/file-name.ts'
import { BackupStore } from '../../src/backup/backup-store.ts'
import { type OpenShard, shardName, storeShard } from '../../src/backup/shard.ts'
import type { BackupObject, BackupRecord } from '../../src/catalog/backup-record.ts'
import { backupId, backupPrefix, pathInCluster } from '../../src/catalog/layout.ts'
import type { Repository } from '../../src/catalog/repository.ts'
import type { CopiedFile } from '../../src/catalog/shard-index.ts'
import { encodeIncrementalHeader, incrementalName } from '../../src/postgres/incremental-file.ts'
import { type ManifestFile, writeManifest } from '../../src/postgres/manifest.ts'
import { summary } from '../catalog/stored.ts'

export const BLOCK = 8192
export const MODIFIED_MS = 1_700_000_000_000

/** A member of a backup. */
export interface Made {
  path: string
  content: Buffer
  /** `base` when left out. */
  group?: string
  /** Of an incremental member. */
  fileSize?: number
  /** What the index and the manifest say of it; the truth when left out. */
  sha256?: string
  mode?: number
}

export interface MadeLink {
  files: readonly Made[]
  /** Each list becomes a shard; without lists all files of a group are in one. */
  shards?: readonly (readonly Made[])[]
  folders?: readonly { path: string; mode: number; group?: string }[]
  facts?: Parameters<typeof summary>[1]
  /** What the index says of the files, where it lies. */
  lie?: (file: CopiedFile) => CopiedFile
}

/** A member with some blocks of a file. @param blocks their content by their numbers, ascending */
export function increment(
  path: string,
  length: number,
  blocks: ReadonlyMap<number, Buffer> = new Map(),
  fileSize = length * BLOCK,
): Made {
  const header = encodeIncrementalHeader(
    { truncationBlocks: length, blocks: Uint32Array.from(blocks.keys()) },
    BLOCK,
  )
  return { path: incrementalName(path), content: Buffer.concat([header, ...blocks.values()]), fileSize }
}

/** Stores chains of backups with the project's own writer of shards. */
export class ChainMaker {
  readonly chain: BackupRecord[] = []
  readonly #repository: Repository
  readonly #codec: Codec

  constructor(repository: Repository, codec: Codec = { method: 'zstd', level: 1 }) {
    this.#repository = repository
    this.#codec = codec
  }

  /** Adds a backup upon those that there are: a full one first. */
  async add(link: MadeLink): Promise<BackupRecord> {
    const { folders = [], facts = {}, lie } = link
    const below = this.chain.at(-1)
    const day = new Date(Date.UTC(2026, 0, 1 + this.chain.length))
    const id = backupId(day, below ? 'incr' : 'full')
    const store = new BackupStore([this.#repository], backupPrefix('main', id), {
      indexRecipient: undefined,
      onLost: (_name, error) => {
        throw error
      },
    })
    const listed: ManifestFile[] = []
    const objects: BackupObject[] = []
    const shards = link.shards ?? [...Map.groupBy(link.files, ({ group = 'base' }) => group).values()]
    const numbers = new Map<string, number>()
    for (const files of shards) {
      const group = files[0]?.group ?? 'base'
      const number = (numbers.get(group) ?? 0) + 1
      numbers.set(group, number)
      const ours = folders.filter((folder) => number === 1 && (folder.group ?? 'base') === group)
      const fill = function* (shard: OpenShard) {
        for (const { path, mode } of ours) yield* shard.writer.member(memberOf(path, 'directory', 0, mode))
        for (const file of files) yield* writeMember(shard, file, group, listed, lie)
      }
      const name = shardName(group, number, this.#codec)
      const { plainBytes, members, stored, index } = await storeShard(
        store,
        { name, group, codec: this.#codec },
        fill,
      )
      objects.push({ ...stored[this.#repository.name]!, kind: 'shard', group, plainBytes, members })
      objects.push({ ...index[this.#repository.name]!, kind: 'index', group })
    }
    objects.push({ ...(await this.#storeManifest(store, listed)), kind: 'manifest' })
    const parent = below && { id: below.id, startLsn: below.start.lsn, timeline: below.timeline }
    const record: BackupRecord = {
      ...summary(id, { type: below ? 'incr' : 'full', ...(parent && { parent }), ...facts }),
      damaged: [],
      objects,
    }
    this.chain.push(record)
    return record
  }

  async #storeManifest(store: BackupStore, files: ManifestFile[]) {
    const head = { systemIdentifier: '42', majorVersion: 17 }
    const pieces: Buffer[] = []
    for await (const piece of writeManifest(head, files, [], nameToBytes)) pieces.push(piece)
    const content = Buffer.from(compressFrame(this.#codec, Buffer.concat(pieces)))
    const one = async function* () {
      yield content
    }
    return (await store.put(`backup_manifest${codecSuffix(this.#codec)}`, one()))[this.#repository.name]!
  }
}

function* writeMember(
  { writer, add }: OpenShard,
  { path, content, fileSize, sha256 = hash('sha256', content), mode = 0o600 }: Made,
  group: string,
  listed: ManifestFile[],
  lie: (file: CopiedFile) => CopiedFile = (file) => file,
): Generator<Buffer> {
  let at = 0
  const fill = (room: Buffer) => {
    const copied = content.copy(room, 0, at)
    at += copied
    return copied
  }
  const offset = yield* writer.member(memberOf(path, 'file', content.length, mode), fill)
  const facts = { path, size: content.length, modifiedMs: MODIFIED_MS, sha256 }
  add(lie({ ...facts, offset, ...(fileSize !== undefined && { fileSize }) }), true)
  if (group !== 'wal') listed.push({ ...facts, path: pathInCluster(group, path) })
}

const memberOf = (path: string, type: 'file' | 'directory', size: number, mode: number) => ({
  ...{ path, type, size, mode },
  ...{ mtime: MODIFIED_MS / 1000, uid: 0, gid: 0 },
})

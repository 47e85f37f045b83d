import { createHash } from 'node:crypto'
import { lstatSync } from 'node:fs'
import { join } from 'node:path'
import { type Codec, formatCodec } from '../archive/codec.ts'
import { fsPath } from '../archive/file-name.ts'
import { PgrecallError } from '../errors.ts'
import { type Lsn, lsn } from '../postgres/lsn.ts'
import type { Storage } from '../storage/storage.ts'
import type { StoredShard } from './shard.ts'
import { type CopiedFile, readShardIndex } from './shard-index.ts'

/**
 * What an interrupted backup has stored. A shard whose files have not changed since they were copied is as good as a new
 * copy of them: a file that keeps its size and its time holds the same bytes, and was not being written when it was read.
 */
export class KeptShards {
  readonly #storage: Storage
  readonly #folder: string
  readonly #candidates: StoredShard[]
  readonly shards: StoredShard[] = []
  readonly #paths = new Map<string, Set<string>>()

  private constructor(storage: Storage, folder: string, candidates: StoredShard[]) {
    this.#storage = storage
    this.#folder = folder
    this.#candidates = candidates
  }

  /** For a backup that begins anew. */
  static none(storage: Storage, folder: string): KeptShards {
    return new KeptShards(storage, folder, [])
  }

  /** Looks through the folder of an interrupted backup, and removes all but whole shards of the same codec. */
  static async find(storage: Storage, folder: string, codec: Codec): Promise<KeptShards> {
    const bytesByName = new Map<string, number>()
    for await (const { key, bytes } of storage.list(folder)) bytesByName.set(key.slice(folder.length), bytes)
    const candidates: StoredShard[] = []
    const whole = new Set<string>()
    for (const name of bytesByName.keys()) {
      const candidate = /\.index\.jsonl(?:\.\w+)?$/.test(name)
        ? await readCandidate(storage, folder, name, bytesByName, codec)
        : undefined
      if (!candidate) continue
      candidates.push(candidate)
      whole.add(name).add(candidate.name)
    }
    for (const name of bytesByName.keys()) if (!whole.has(name)) await storage.remove(folder + name)
    return new KeptShards(storage, folder, candidates)
  }

  /** Plain bytes of the shards that may be kept, before anything is known of their files. */
  get offeredBytes(): number {
    return this.#candidates.reduce((sum, shard) => sum + shard.fileBytes, 0)
  }

  /** Plain bytes of the shards that are kept. */
  get bytes(): number {
    return this.shards.reduce((sum, shard) => sum + shard.fileBytes, 0)
  }

  /** Numbers of shards, by group, that no new shard may have. */
  get numbersTaken(): Map<string, number> {
    const taken = new Map<string, number>()
    for (const { group, name } of this.shards) {
      const number = Number(/\.(\d+)\.tar/.exec(name)?.[1])
      taken.set(group, Math.max(number, taken.get(group) ?? 0))
    }
    return taken
  }

  readonly isStored = (group: string, path: string): boolean => this.#paths.get(group)?.has(path) ?? false

  /**
   * Keeps the shards that still hold, and removes the others.
   * @param roots where each group's files are now
   * @param startLsn where the new backup begins: a page that is younger cannot be in a file that did not change
   */
  async settle(roots: ReadonlyMap<string, string>, startLsn: Lsn, signal: AbortSignal): Promise<void> {
    for (const shard of this.#candidates) {
      const root = roots.get(shard.group)
      signal.throwIfAborted()
      // An index that cannot be read to its end says nothing of its shard.
      const paths =
        root === undefined
          ? undefined
          : await this.#unchanged(shard, root, startLsn, signal).catch((error) => {
              signal.throwIfAborted()
              if (error instanceof PgrecallError && error.kind === 'repository') throw error
              return undefined
            })
      if (!paths) {
        await this.#storage.remove(this.#folder + shard.index.name)
        await this.#storage.remove(this.#folder + shard.name)
        continue
      }
      this.shards.push(shard)
      const known = this.#paths.get(shard.group) ?? new Set()
      for (const path of paths) known.add(path)
      this.#paths.set(shard.group, known)
    }
  }

  /** The shard's files, if every one of them is as it was. */
  async #unchanged(
    shard: StoredShard,
    root: string,
    startLsn: Lsn,
    signal: AbortSignal,
  ): Promise<string[] | undefined> {
    const index = await readShardIndex(this.#storage, this.#folder + shard.index.name)
    if (!index) return undefined
    const paths: string[] = []
    for await (const file of index.files) {
      if (paths.length % 1000 === 0) signal.throwIfAborted()
      if (!isUnchanged(file, root, startLsn)) return undefined
      paths.push(file.path)
    }
    return paths.length === shard.files ? paths : undefined
  }
}

function isUnchanged(file: CopiedFile, root: string, startLsn: Lsn): boolean {
  const facts = lstatSync(fsPath(join(root, file.path)), { throwIfNoEntry: false })
  if (!facts?.isFile() || facts.size !== file.size || facts.mtimeMs !== file.modifiedMs) return false
  return file.lastLsn === undefined || lsn(file.lastLsn) <= startLsn
}

async function readCandidate(
  storage: Storage,
  folder: string,
  name: string,
  bytesByName: ReadonlyMap<string, number>,
  codec: Codec,
): Promise<StoredShard | undefined> {
  const index = await readShardIndex(storage, folder + name).catch(() => undefined)
  if (!index) return undefined
  const { head } = index
  if (head.codec !== formatCodec(codec) || bytesByName.get(head.shard) !== head.bytes) return undefined
  const { shard, unsettled, codec: _codec, frames: _frames, frameBytes: _frameBytes, ...facts } = head
  if (unsettled > 0 || facts.group === 'wal') return undefined
  return { name: shard, ...facts, index: { name, ...(await sumOfObject(storage, folder + name)) } }
}

async function sumOfObject(storage: Storage, key: string): Promise<{ bytes: number; sha256: string }> {
  const sum = createHash('sha256')
  let bytes = 0
  for await (const chunk of (await storage.get(key)) ?? []) {
    sum.update(chunk)
    bytes += chunk.length
  }
  return { bytes, sha256: sum.digest('hex') }
}

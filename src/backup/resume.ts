import { lstatSync } from 'node:fs'
import { join } from 'node:path'
import { SEAL_HEADER_READ_BYTES, SEAL_SUFFIX } from '../archive/age.ts'
import { type Codec, formatCodec } from '../archive/codec.ts'
import { fsPath } from '../archive/file-name.ts'
import type { StoredObject } from '../catalog/backup-record.ts'
import { ObjectSum } from '../catalog/object-sum.ts'
import type { Repository } from '../catalog/repository.ts'
import { hasFormOf } from '../catalog/sealed-object.ts'
import { type CopiedFile, readShardIndex } from '../catalog/shard-index.ts'
import { type Lsn, lsn } from '../postgres/lsn.ts'
import { readObject } from '../storage/storage.ts'
import type { StoredShard } from './shard.ts'

/**
 * What an interrupted backup has stored. A shard whose files have not changed since they were copied is as good as a new
 * copy of them: a file that keeps its size and its time holds the same bytes, and was not being written when it was read.
 * A backup that goes to several repositories keeps what is in all of them.
 */
export class KeptShards {
  readonly #repositories: readonly Repository[]
  readonly #folder: string
  readonly #candidates: StoredShard[]
  readonly shards: StoredShard[] = []
  readonly #left: StoredShard[] = []
  readonly #paths = new Map<string, Set<string>>()

  private constructor(repositories: readonly Repository[], folder: string, candidates: StoredShard[]) {
    this.#repositories = repositories
    this.#folder = folder
    this.#candidates = candidates
  }

  /** For a backup that begins anew. */
  static none(): KeptShards {
    return new KeptShards([], '', [])
  }

  /**
   * Looks through the folder of an interrupted backup, and removes all but whole shards of the same codec that are in
   * every repository, in the form that it is configured for now. Where they are encrypted, a host without a secret key cannot read of what they are, and keeps none.
   */
  static async find(
    repositories: readonly Repository[],
    folder: string,
    codec: Codec,
    writtenWith: readonly string[] = repositories.map(({ name }) => name),
  ): Promise<KeptShards> {
    const wanted = { codec, repositories: writtenWith }
    const found = await Promise.all(repositories.map((repository) => wholeShards(repository, folder, wanted)))
    const candidates = found[0]!.shards.flatMap((first) => {
      const same = found.map(({ shards }) =>
        shards.find(({ name, run }) => name === first.name && run === first.run),
      )
      if (!same.every((shard) => shard !== undefined)) return []
      const { run: _run, object: _object, index: _index, ...facts } = first
      const by = <T>(of: (shard: WholeShard) => T) =>
        Object.fromEntries(same.map((shard, at) => [repositories[at]!.name, of(shard)]))
      return [{ ...facts, stored: by(({ object }) => object), index: by(({ index }) => index) }]
    })
    for (const [at, { name, storage }] of repositories.entries()) {
      const kept = new Set(candidates.flatMap(({ stored, index }) => [stored[name]!.name, index[name]!.name]))
      for (const object of found[at]!.names) if (!kept.has(object)) await storage.remove(folder + object)
    }
    return new KeptShards(repositories, folder, candidates)
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
    for (const { group, name } of [...this.shards, ...this.#left]) {
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
          : await this.#unchanged(shard, root, startLsn, signal).catch(() => {
              signal.throwIfAborted()
              return undefined
            })
      if (!paths) {
        await this.#remove(shard)
        continue
      }
      this.shards.push(shard)
      const known = this.#paths.get(shard.group) ?? new Set()
      for (const path of paths) known.add(path)
      this.#paths.set(shard.group, known)
    }
  }

  /** What a host that may not delete has to leave is in nobody's way, as long as no other shard gets its name. */
  async #remove(shard: StoredShard): Promise<void> {
    for (const { name, storage } of this.#repositories) {
      for (const object of [shard.index[name]!, shard.stored[name]!]) {
        await storage.remove(this.#folder + object.name).catch(() => this.#left.push(shard))
      }
    }
  }

  /** The shard's files, if every one of them is as it was. */
  async #unchanged(
    shard: StoredShard,
    root: string,
    startLsn: Lsn,
    signal: AbortSignal,
  ): Promise<string[] | undefined> {
    const [repository] = this.#repositories
    const index = await readShardIndex(repository!, this.#folder + shard.index[repository!.name]!.name)
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

/** A shard as it lies whole in one repository. */
type WholeShard = Omit<StoredShard, 'stored' | 'index'> & {
  /** The run that stored it: two hosts may have begun backups of one id. */
  run: string
  object: StoredObject
  index: StoredObject
}

/** Which shards can be gone on from. */
interface Wanted {
  codec: Codec
  /** The names of all repositories that they were stored in. */
  repositories: readonly string[]
}

async function wholeShards(
  repository: Repository,
  folder: string,
  wanted: Wanted,
): Promise<{ shards: WholeShard[]; names: string[] }> {
  const bytesByName = new Map<string, number>()
  for await (const { key, bytes } of repository.storage.list(folder))
    bytesByName.set(key.slice(folder.length), bytes)
  const shards: WholeShard[] = []
  for (const name of bytesByName.keys()) {
    const shard = /\.index\.jsonl(?:\.\w+)*$/.test(name)
      ? await readWhole(repository, folder, name, bytesByName, wanted)
      : undefined
    if (shard) shards.push(shard)
  }
  return { shards, names: [...bytesByName.keys()] }
}

async function readWhole(
  repository: Repository,
  folder: string,
  indexName: string,
  bytesByName: ReadonlyMap<string, number>,
  { codec, repositories }: Wanted,
): Promise<WholeShard | undefined> {
  const read = await readShardIndex(repository, folder + indexName).catch(() => undefined)
  if (!read) return undefined
  await read.close()
  const { shard: name, bytes, sha256, header, run, group, plainBytes, members, files, fileBytes } = read.head
  if (read.head.codec !== formatCodec(codec) || bytesByName.get(name) !== bytes) return undefined
  if (read.head.unsettled > 0 || group === 'wal') return undefined
  // What another one of them may have completed since is a backup of its own.
  if (read.head.repositories.toSorted().join() !== repositories.toSorted().join()) return undefined
  const range = { offset: 0, length: SEAL_HEADER_READ_BYTES }
  const start = header && (await readObject(repository.storage, folder + name, { range }))
  if (!hasFormOf(repository, name, start)) return undefined
  const sum = new ObjectSum(header !== undefined)
  sum.push((await readObject(repository.storage, folder + indexName)) ?? Buffer.alloc(0))
  return {
    name: header ? name.slice(0, -SEAL_SUFFIX.length) : name,
    ...{ group, plainBytes, members, files, fileBytes, run },
    object: { name, bytes, sha256, ...(header && { header }) },
    index: { name: indexName, ...sum.end() },
  }
}

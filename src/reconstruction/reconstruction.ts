import { hash } from 'node:crypto'
import type { BackupObject, BackupRecord } from '../catalog/backup-record.ts'
import { backupPrefix, pathInCluster } from '../catalog/layout.ts'
import type { ReadableRepository } from '../catalog/sealed-object.ts'
import type { CopiedFile, ShardHead } from '../catalog/shard-index.ts'
import { PgrecallError } from '../errors.ts'
import { encodeIncrementalHeader, originalName } from '../postgres/incremental-file.ts'
import { sideBySide } from '../side-by-side.ts'
import { FileSet } from './file-set.ts'
import { FileTable, type FinalMember } from './file-table.ts'
import { filesInManifest, readIndex } from './link-files.ts'
import { BLOCK_BYTES } from './merged-blocks.ts'
import type { StoredShard } from './shard-content.ts'

/** A folder of the newest link. */
export interface FinalFolder {
  /** `base`, a tablespace's oid, or `wal`. */
  group: string
  /** In its group. */
  path: string
  /** Permission bits. */
  mode: number
}

/** A shard with the newest whole copy of at least one file that the newest link has. */
export interface BaseShard {
  /** Its number. */
  shard: number
  /** Ascending by their place in the shard. */
  members: FinalMember[]
}

const INDEXES_AT_ONCE = 4

/**
 * Finds out what the files of a backup are made of: reads the indexes of all links of its chain, checks them against
 * their stored sums and against the links' manifests, and keeps of them what the newest link's files need.
 *
 * @param chain oldest first; a full backup alone is a chain too
 * @throws PgrecallError `damaged` where an index or a manifest is not what it must be, or where there is no whole copy of a
 *   file; `key` where they are encrypted and no key fits; `refused` where the newest link has no list of its folders
 */
export async function reconstructionOf(
  chain: readonly BackupRecord[],
  repository: ReadableRepository,
  signal?: AbortSignal,
): Promise<Reconstruction> {
  const reconstruction = new Reconstruction(chain)
  for (const link of chain.toReversed()) await reconstruction.addLink(link, repository, signal)
  reconstruction.requireWholes()
  return reconstruction
}

/** What the files of a backup are made of. */
export class Reconstruction {
  /** The shards of all links, by their numbers; without WAL that lies in older links. */
  readonly shards: StoredShard[] = []
  readonly folders: FinalFolder[] = []
  readonly #newest: BackupRecord
  readonly #oldest: BackupRecord
  readonly #table = new FileTable()
  /** How many were added; so the newest has the number 1. */
  #links = 0

  /** @param chain oldest first */
  constructor(chain: readonly BackupRecord[]) {
    this.#newest = chain.at(-1)!
    this.#oldest = chain[0]!
  }

  get files(): number {
    return this.#table.count
  }

  /** Plain bytes of all files, as the newest link's indexes have them. */
  get bytes(): number {
    let bytes = 0
    for (const number of this.#table.numbers.values()) bytes += this.#table.fileBytesOf(number)
    return bytes
  }

  /** Adds a link; the newest one comes first. */
  async addLink(link: BackupRecord, repository: ReadableRepository, signal?: AbortSignal): Promise<void> {
    this.#links++
    const listed = new FileSet()
    const isNeeded = ({ kind, group }: BackupObject) =>
      kind === 'index' && (group !== 'wal' || link === this.#newest)
    await sideBySide(link.objects.filter(isNeeded), INDEXES_AT_ONCE, async (object) => {
      signal?.throwIfAborted()
      let shard = 0
      const onHead = (head: ShardHead) => {
        shard = this.#addShard(link, object, head)
      }
      await readIndex(repository, link, object, onHead, (file) => this.#addFile(link, shard, file, listed))
    })
    if (!listed.equals(await filesInManifest(repository, link)))
      throw damaged(`backup ${link.id} is damaged: its indexes list other files than its manifest`)
    for (const [path, number] of this.#table.numbers) {
      if (this.#table.shardOf(number) === undefined && !this.#table.isSeen(number, this.#links))
        throw this.#leadsNowhere(path, link)
    }
  }

  /** @throws PgrecallError `damaged` unless every file has a whole copy */
  requireWholes(): void {
    for (const [path, number] of this.#table.numbers) {
      if (this.#table.shardOf(number) === undefined) throw this.#leadsNowhere(path, this.#oldest)
    }
  }

  /** The group of each file, and its path there. */
  *places(): Generator<{ group: string; path: string }> {
    for (const [path, number] of this.#table.numbers) {
      const { group } = this.shards[this.#table.shardOf(number)!]!
      yield { group, path: path.slice(pathInCluster(group, '').length) }
    }
  }

  /**
   * The shards to read, those with the most work first; one after the other, since their members take more memory than
   * what is kept here of them.
   */
  *baseShards(): Generator<BaseShard> {
    const table = this.#table
    const byShard = Map.groupBy(table.numbers, ([, number]) => table.shardOf(number)!)
    const work = (files: readonly [string, number][]) =>
      files.reduce((sum, [, number]) => sum + table.fileBytesOf(number), 0)
    const order = [...byShard].map(([shard, files]) => ({ shard, files, work: work(files) }))
    for (const { shard, files } of order.sort((a, b) => b.work - a.work)) {
      const { group, backup } = this.shards[shard]!
      const before = pathInCluster(group, '').length
      const isWhole = backup === this.#newest.id
      const members = files.map(([path, number]) => table.member(number, path.slice(before), isWhole))
      yield { shard, members: members.sort((a, b) => a.offset - b.offset) }
    }
  }

  #addShard(link: BackupRecord, { group }: BackupObject, head: ShardHead): number {
    const object = link.objects.find(({ kind, name }) => kind === 'shard' && name === head.shard)
    if (!object || object.group !== group || group === undefined)
      throw new Error('it is of no shard that the record of its backup names')
    if (link === this.#newest) this.#addFolders(group, head)
    const { name, bytes, sha256, header } = object
    const key = backupPrefix(link.cluster, link.id) + name
    const frames = Float64Array.from(head.frames)
    const { plainBytes, frameBytes } = head
    const stored = { name, bytes, sha256, ...(header && { header }) }
    return (
      this.shards.push({ backup: link.id, key, group, object: stored, plainBytes, frameBytes, frames }) - 1
    )
  }

  #addFolders(group: string, { folders }: ShardHead): void {
    if (!folders) {
      throw new PgrecallError(
        'refused',
        `the indexes of backup ${this.#newest.id} do not tell its folders, as an older pgrecall made them`,
        { hint: 'restore all of it, into an empty directory' },
      )
    }
    for (const { path, mode } of folders) this.folders.push({ group, path, mode })
  }

  #addFile(link: BackupRecord, shard: number, file: CopiedFile, listed: FileSet): void {
    const { group } = this.shards[shard]!
    const { size, sha256, offset, modifiedMs } = file
    if (group !== 'wal') listed.add(pathInCluster(group, file.path), size, sha256)
    const original = originalName(file.path)
    const path = pathInCluster(group, original ?? file.path)
    const table = this.#table
    const fileSize = file.fileSize ?? size
    const known = table.numbers.get(path)
    if (known === undefined && link !== this.#newest) return
    const number = known ?? table.add(path, { modifiedMs, fileBytes: fileSize })
    if (table.isSeen(number, this.#links))
      throw damaged(`backup ${link.id} is damaged: it has the file ${path} twice`)
    table.see(number, this.#links)
    if (table.shardOf(number) !== undefined) return
    if (original === undefined) table.setWhole(number, shard, { offset, size, sha256 })
    else if (hasNoBlocks(file)) table.addEmptyIncrement(number, fileSize / BLOCK_BYTES)
    else table.addIncrement(number, { shard, offset, size, sha256, fileSize })
  }

  #leadsNowhere(path: string, link: BackupRecord): PgrecallError {
    return damaged(
      `backup ${this.#newest.id} has the changed blocks of ${path} only, and the file that they belong to is not in backup ${link.id} below it`,
    )
  }
}

/** Whether a member is the header alone, by its sum; most files have not changed, and so their members need not be read. */
function hasNoBlocks({ size, sha256, fileSize }: CopiedFile): boolean {
  if (size !== EMPTY_BYTES || fileSize === undefined || fileSize % BLOCK_BYTES !== 0) return false
  const truncationBlocks = fileSize / BLOCK_BYTES
  if (truncationBlocks > MOST_BLOCKS) return false
  return (
    sha256 === hash('sha256', encodeIncrementalHeader({ truncationBlocks, blocks: NO_BLOCKS }, BLOCK_BYTES))
  )
}

const NO_BLOCKS = new Uint32Array(0)
const EMPTY_BYTES = 12
/** Far more than a file of any server has; the number is stored in four bytes. */
const MOST_BLOCKS = 2 ** 31

const damaged = (what: string) =>
  new PgrecallError('damaged', what, { hint: 'restore from another repository or from another backup' })

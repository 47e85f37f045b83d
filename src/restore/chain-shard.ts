import { join } from 'node:path'
import { pathInCluster } from '../catalog/layout.ts'
import type { ReadableRepository } from '../catalog/sealed-object.ts'
import { PgrecallError, systemCode } from '../errors.ts'
import type { ManifestFile } from '../postgres/manifest.ts'
import { relationFork } from '../postgres/relation-file.ts'
import type { FinalMember } from '../reconstruction/file-table.ts'
import { type FinalFile, finalFiles, isUnchanged } from '../reconstruction/final-files.ts'
import type { BaseShard } from '../reconstruction/reconstruction.ts'
import type { StoredShard } from '../reconstruction/shard-content.ts'
import { changedOrNew, isThere, writePlaceholder } from './chain-file.ts'
import { type FileRules, NewFile } from './extract-file.ts'
import { cannotWrite } from './extract-shard.ts'
import { SYNC_FILES, syncFiles } from './extract-sync.ts'

/** A file of the restored cluster. */
export interface RestoredFile extends Omit<ManifestFile, 'sha256'> {
  /** Undefined of a placeholder. */
  sha256: string | undefined
  /** Whether its content is just that of the member of its name in the newest link. */
  asRecorded: boolean
}

/** Where the files go whose whole copies are in one shard. */
export interface ChainJob extends BaseShard {
  /** The folder that the members' paths are relative to. */
  root: string
  /** Members that are written under another name, so that they take effect only later. */
  renamed: Record<string, string>
}

export interface ChainRules {
  owner: FileRules['owner']
  /** Whether each file is synced here; otherwise the whole filesystem is, at the end. */
  syncFiles: boolean
  /** Whether there may be files already. */
  delta: boolean
  /** Databases, by their oids, whose relations are not brought back. */
  placeholders: readonly string[]
}

export interface ChainContext extends ChainRules {
  repository: ReadableRepository
  shards: readonly StoredShard[]
  /** Hears of plain bytes as they are dealt with; may throw to stop. */
  onBytes: (count: number) => void
  /** @param writtenBytes of it, without holes @param keptBytes what was there already */
  onFile: (file: RestoredFile | undefined, writtenBytes: number, keptBytes: number) => void
}

/**
 * Writes the files whose newest whole copies are in one shard, each of them once, with what has changed since.
 * @throws PgrecallError `damaged` when stored bytes are not what they must be, `failed` when they cannot be written
 */
export async function extractBase(job: ChainJob, context: ChainContext): Promise<void> {
  const base = new BaseFiles(job, context)
  try {
    const members = job.members.filter((member) => !base.needsNothing(member))
    for await (const file of finalFiles({ shard: job.shard, members }, context.shards, context.repository))
      await base.write(file)
    await base.sync()
  } catch (error) {
    if (error instanceof PgrecallError) throw error
    throw systemCode(error)?.startsWith('E') ? cannotWrite(job.root, error) : error
  }
}

class BaseFiles {
  readonly #job: ChainJob
  readonly #context: ChainContext
  readonly #group: string
  readonly #rules: FileRules
  readonly #placeholders: ReadonlySet<number>
  #unsynced: string[] = []

  constructor(job: ChainJob, context: ChainContext) {
    this.#job = job
    this.#context = context
    this.#group = context.shards[job.shard]!.group
    this.#rules = { owner: context.owner, sparse: this.#group !== 'wal' }
    this.#placeholders = new Set(context.placeholders.map(Number))
  }

  /** Deals with a file for which nothing has to be read from the repository. */
  needsNothing(member: FinalMember): boolean {
    if (this.#isPlaceholder(member)) {
      this.#writePlaceholder(member)
      return true
    }
    if (!this.#context.delta || !isUnchanged(member) || member.path === 'backup_label') return false
    const { path, size, sha256, modifiedMs, isWhole } = member
    const place = this.#placeOf(path)
    const facts = { size, sha256, mtime: secondsOf(modifiedMs) }
    if (!isThere(place, facts, this.#rules, this.#context.onBytes)) return false
    this.#done(place, { path, size, modifiedMs, sha256, asRecorded: isWhole }, 0, size)
    return true
  }

  async write(file: FinalFile): Promise<void> {
    const { path, size, modifiedMs, mode, asRecorded } = file
    const place = this.#placeOf(path)
    const target = this.#context.delta ? changedOrNew(place, this.#rules) : new NewFile(place, this.#rules)
    const content = file.content()
    let next = await content.next()
    for (; !next.done; next = await content.next()) {
      this.#context.onBytes(next.value.length)
      target.write(next.value)
    }
    target.end({ size, mode, mtime: secondsOf(modifiedMs) })
    const { writtenBytes } = target
    const keptBytes = this.#context.delta ? size - writtenBytes : 0
    this.#done(place, { path, size, modifiedMs, sha256: next.value, asRecorded }, writtenBytes, keptBytes)
    if (this.#unsynced.length >= SYNC_FILES) await this.sync()
  }

  async sync(): Promise<void> {
    const paths = this.#unsynced
    this.#unsynced = []
    await syncFiles(paths)
  }

  /** Of a database that is not brought back the relations are empty; what tells its version and its map stays. */
  #isPlaceholder({ path }: FinalMember): boolean {
    if (this.#placeholders.size === 0 || this.#group === 'wal') return false
    const relation = relationFork(path)
    return relation !== undefined && this.#placeholders.has(relation.database)
  }

  #writePlaceholder({ path, fileBytes, modifiedMs }: FinalMember): void {
    const place = this.#placeOf(path)
    const facts = { size: fileBytes, mode: 0o600, mtime: secondsOf(modifiedMs) }
    writePlaceholder(place, facts, this.#rules)
    this.#context.onBytes(fileBytes)
    this.#done(place, { path, size: fileBytes, modifiedMs, sha256: undefined, asRecorded: false }, 0, 0)
  }

  #done(place: string, file: RestoredFile, writtenBytes: number, keptBytes: number): void {
    if (this.#context.syncFiles) this.#unsynced.push(place)
    const told = this.#group === 'wal' ? undefined : { ...file, path: pathInCluster(this.#group, file.path) }
    this.#context.onFile(told, writtenBytes, keptBytes)
  }

  #placeOf(path: string): string {
    return join(this.#job.root, this.#job.renamed[path] ?? path)
  }
}

/** An archive has times in whole seconds, and so have the files of every other restore. */
const secondsOf = (ms: number) => Math.floor(ms / 1000)

import type { BackupObject, BackupRecord } from '../catalog/backup-record.ts'
import { backupPrefix } from '../catalog/layout.ts'
import type { ReadableRepository } from '../catalog/sealed-object.ts'
import { type CopiedFile, readShardIndex } from '../catalog/shard-index.ts'
import { PgrecallError } from '../errors.ts'
import { originalName } from '../postgres/incremental-file.ts'
import { relationFork } from '../postgres/relation-file.ts'

/** Facts of a file: bytes, and when it was changed, in milliseconds since 1970. */
export interface FileFacts {
  size: number
  modifiedMs: number
}

/**
 * The files of relations that the parent of an incremental backup has, in whatever form, with the size and the time that
 * they had. Some hundred bytes for each.
 */
export class ParentFiles {
  readonly #numbers = new Map<string, number>()
  #sizes = new Float64Array(1024)
  #times = new Float64Array(1024)

  /**
   * Reads them from the indexes of a backup.
   * @throws PgrecallError `key` where they are encrypted and no key fits, `damaged` where they are not whole
   */
  static async read(
    repository: ReadableRepository,
    record: BackupRecord,
    signal?: AbortSignal,
  ): Promise<ParentFiles> {
    const files = new ParentFiles()
    for (const object of record.objects) {
      signal?.throwIfAborted()
      if (object.kind === 'index' && object.group !== 'wal') await files.#addIndex(repository, record, object)
    }
    return files
  }

  /** @param group `base` or a tablespace's oid @param path relative to the group's root */
  find(group: string, path: string): FileFacts | undefined {
    const number = this.#numbers.get(`${group}/${path}`)
    return number === undefined ? undefined : { size: this.#sizes[number]!, modifiedMs: this.#times[number]! }
  }

  async #addIndex(
    repository: ReadableRepository,
    { cluster, id }: BackupRecord,
    { name, group }: BackupObject,
  ) {
    const key = backupPrefix(cluster, id) + name
    const index = await readShardIndex(repository, key)
    if (!index) throw new PgrecallError('damaged', `${key} is missing`)
    let files = 0
    for await (const file of index.files) {
      files++
      this.#add(group!, file)
    }
    if (files !== index.head.files) throw new PgrecallError('damaged', `${key} is not whole`)
  }

  #add(group: string, { path, size, fileSize, modifiedMs }: CopiedFile): void {
    const original = originalName(path) ?? path
    if (relationFork(original)?.fork !== 'main') return
    const number = this.#numbers.size
    if (number === this.#sizes.length) {
      this.#sizes = doubled(this.#sizes)
      this.#times = doubled(this.#times)
    }
    this.#sizes[number] = fileSize ?? size
    this.#times[number] = modifiedMs
    this.#numbers.set(`${group}/${original}`, number)
  }
}

function doubled(values: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(values.length * 2)
  larger.set(values)
  return larger
}

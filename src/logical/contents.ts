import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { decode, methodOf } from '../archive/codec.ts'
import { backupPrefix } from '../catalog/layout.ts'
import type { LogicalRecord } from '../catalog/logical-record.ts'
import type { Repository } from '../catalog/repository.ts'
import { readContent } from '../catalog/sealed-object.ts'
import type { ArchiveEntry } from '../postgres/archive-list.ts'

/** A thing that a dump holds, as a line of `contents.jsonl`. */
export interface ContentsEntry {
  database: string
  type: string
  schema?: string
  name: string
  owner: string
}

const PIECE_BYTES = 64 * 1024

/** `contents.jsonl`: a line of JSON for each thing of each dump, in the order of the archives. */
export async function* contentsLines(
  dumps: readonly { database: { name: string }; entries: readonly ArchiveEntry[] }[],
): AsyncGenerator<Buffer> {
  let text = ''
  for (const { database, entries } of dumps)
    for (const { type, schema, name, owner } of entries) {
      const entry: ContentsEntry = {
        database: database.name,
        type,
        ...(schema !== undefined && { schema }),
        name,
        owner,
      }
      text += `${JSON.stringify(entry)}\n`
      if (text.length < PIECE_BYTES) continue
      yield Buffer.from(text)
      text = ''
    }
  if (text !== '') yield Buffer.from(text)
}

/**
 * What the dumps of a backup hold, without reading them.
 * @returns undefined of a backup that has no such list, as one script
 * @throws PgrecallError `key` where no key fits, `damaged`
 */
export async function readContents(
  repository: Repository,
  { cluster, id, objects }: LogicalRecord,
): Promise<AsyncIterable<ContentsEntry> | undefined> {
  const object = objects.find(({ kind }) => kind === 'contents')
  if (!object) return undefined
  const stored = await readContent(repository, backupPrefix(cluster, id) + object.name)
  if (!stored) return undefined
  const copies = async function* () {
    for await (const piece of decode(methodOf(object.name), stored)) yield Buffer.from(piece)
  }
  const lines = createInterface({ input: Readable.from(copies()), crlfDelay: Number.POSITIVE_INFINITY })
  return (async function* () {
    for await (const line of lines) yield JSON.parse(line) as ContentsEntry
  })()
}

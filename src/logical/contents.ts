import type { LogicalRecord } from '../catalog/logical-record.ts'
import type { Repository } from '../catalog/repository.ts'
import type { ArchiveEntry } from '../postgres/archive-list.ts'
import { readJsonLines } from './json-lines.ts'

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
 * @throws PgrecallError while it is read, as `readJsonLines`
 */
export function readContents(
  repository: Repository,
  record: LogicalRecord,
): AsyncIterable<ContentsEntry> | undefined {
  const object = record.objects.find(({ kind }) => kind === 'contents')
  return object && readJsonLines<ContentsEntry>(repository, record, object)
}

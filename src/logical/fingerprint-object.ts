import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import { decode, methodOf } from '../archive/codec.ts'
import { backupPrefix } from '../catalog/layout.ts'
import type { LogicalRecord } from '../catalog/logical-record.ts'
import type { Repository } from '../catalog/repository.ts'
import { readContent } from '../catalog/sealed-object.ts'
import type { TableFingerprint } from './fingerprint.ts'

/** A line of `fingerprints.jsonl`. */
export interface RecordedFingerprint extends TableFingerprint {
  /** Its name. */
  database: string
}

/** `fingerprints.jsonl`: a line of JSON for each table. */
export function* fingerprintLines(
  databases: readonly { database: { name: string }; fingerprints: readonly TableFingerprint[] }[],
): Generator<Buffer> {
  for (const { database, fingerprints } of databases)
    for (const fingerprint of fingerprints)
      yield Buffer.from(`${JSON.stringify({ database: database.name, ...fingerprint })}\n`)
}

/**
 * What was counted when a backup was taken.
 * @returns undefined of a backup without `--fingerprint`
 * @throws PgrecallError `key` where no key fits, `damaged`
 */
export async function readFingerprints(
  repository: Repository,
  { cluster, id, objects }: Pick<LogicalRecord, 'cluster' | 'id' | 'objects'>,
): Promise<RecordedFingerprint[] | undefined> {
  const object = objects.find(({ kind }) => kind === 'fingerprint')
  const stored = object && (await readContent(repository, backupPrefix(cluster, id) + object.name))
  if (!stored) return undefined
  const copies = async function* () {
    for await (const piece of decode(methodOf(object.name), stored)) yield Buffer.from(piece)
  }
  const lines = createInterface({ input: Readable.from(copies()), crlfDelay: Number.POSITIVE_INFINITY })
  const found: RecordedFingerprint[] = []
  for await (const line of lines) found.push(JSON.parse(line) as RecordedFingerprint)
  return found
}

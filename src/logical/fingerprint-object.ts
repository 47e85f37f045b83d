import type { LogicalRecord } from '../catalog/logical-record.ts'
import type { Repository } from '../catalog/repository.ts'
import type { TableFingerprint } from './fingerprint.ts'
import { readJsonLines } from './json-lines.ts'

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
 * @throws PgrecallError while it is read, as `readJsonLines`
 */
export function readFingerprints(
  repository: Repository,
  record: Pick<LogicalRecord, 'cluster' | 'id' | 'objects'>,
): AsyncIterable<RecordedFingerprint> | undefined {
  const object = record.objects.find(({ kind }) => kind === 'fingerprint')
  return object && readJsonLines<RecordedFingerprint>(repository, record, object)
}

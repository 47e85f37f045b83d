import { createHash } from 'node:crypto'
import { z } from 'zod'
import { PgrecallError } from '../errors.ts'
import { readObject, type Storage } from '../storage/storage.ts'
import { backupRecordKey } from './layout.ts'

/** A million shards and more. */
const LARGEST_BYTES = 512 * 1024 * 1024
/** What stands before the sum of all that is before it, on the last line. */
const SUM_MARK = ',\n "sha256": "'

/** The bytes of `backup.json`: JSON, with a sum of its own as the last key, as PostgreSQL's manifests have it. */
export function encodeRecord(record: object): Buffer {
  return encodeSummed(JSON.stringify(record, undefined, 1))
}

/** @param json of an object that is not empty, with its last brace on a line of its own */
export function encodeSummed(json: string): Buffer {
  const text = json.replace(/\n\}$/, '')
  return Buffer.from(`${text}${SUM_MARK}${sumOf(Buffer.from(text))}"\n}\n`)
}

/**
 * What the bytes of such a file say; whether that is a record is not looked at.
 * @throws Error when the bytes are not those that were written
 */
export function decodeSummed(bytes: Buffer): unknown {
  const end = bytes.lastIndexOf(SUM_MARK)
  const stated = bytes.toString('latin1', end + SUM_MARK.length)
  if (end < 0 || stated !== `${sumOf(bytes.subarray(0, end))}"\n}\n`)
    throw new Error('its own checksum does not fit')
  return JSON.parse(bytes.toString('utf8'))
}

const sumOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

/**
 * Reads `backup.json` of a backup of one kind.
 * @returns undefined when the backup does not exist, or is not complete
 * @throws PgrecallError `damaged` when the record cannot be believed
 */
export async function readRecord<Kind extends { id: string }>(
  storage: Storage,
  cluster: string,
  id: string,
  schema: z.ZodType<Kind>,
): Promise<Kind | undefined> {
  const key = backupRecordKey(cluster, id)
  const bytes = await readObject(storage, key, { limit: LARGEST_BYTES })
  if (!bytes) return undefined
  try {
    const record = schema.parse(decodeSummed(bytes))
    if (record.id !== id) throw new Error(`it says that it is ${record.id}`)
    return record
  } catch (error) {
    const reason =
      error instanceof z.ZodError ? z.prettifyError(error).replace(/\s+/g, ' ') : (error as Error).message
    throw new PgrecallError('damaged', `${storage.location}/${key} cannot be read: ${reason}`, {
      hint: 'the file was changed or damaged after it was written; other backups are not affected',
      cause: error,
    })
  }
}

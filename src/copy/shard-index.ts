import { type Codec, compressFrame, decode } from '../archive/codec.ts'
import type { StoredObject } from '../catalog/backup-record.ts'
import { PgrecallError } from '../errors.ts'

const NEWLINE = 0x0a

/**
 * An index of a shard with another first line, which describes the shard as it lies in the repository of the index. The lines
 * of the files stay as they are.
 * @param content the index, decrypted, compressed by `codec`
 * @param shardNamed how a shard lies in the destination, by its name in the source
 * @returns frames; each is valid until the next one is asked for
 * @throws PgrecallError `damaged` when it is no index of a shard of this backup
 */
export async function* withOtherShard(
  content: AsyncIterable<Buffer>,
  codec: Codec,
  shardNamed: (name: string) => StoredObject | undefined,
): AsyncGenerator<Buffer> {
  let start: Buffer | undefined = Buffer.alloc(0)
  for await (const text of decode(codec.method, content)) {
    let lines = text
    if (start) {
      start = Buffer.concat([start, text])
      const end = start.indexOf(NEWLINE)
      if (end < 0) continue
      yield compressFrame(codec, headFor(start.subarray(0, end), shardNamed))
      lines = start.subarray(end + 1)
      start = undefined
    }
    if (lines.length > 0) yield compressFrame(codec, lines)
  }
  if (start) throw noIndex()
}

function headFor(line: Buffer, shardNamed: (name: string) => StoredObject | undefined): Buffer {
  const { header: _header, ...head } = parseHead(line)
  const stored = shardNamed(String(head.shard))
  if (!stored) throw noIndex()
  const { name, ...facts } = stored
  return Buffer.from(`${JSON.stringify({ ...head, shard: name, ...facts })}\n`)
}

function parseHead(line: Buffer): Record<string, unknown> {
  try {
    return JSON.parse(line.toString('utf8'))
  } catch (cause) {
    throw noIndex(cause)
  }
}

const noIndex = (cause?: unknown) =>
  new PgrecallError('damaged', 'it is no index of a shard of this backup', { cause })

import { createHash } from 'node:crypto'
import { zstdDecompressSync } from 'node:zlib'
import { compressFrame, measureFrame } from '../archive/codec.ts'

/**
 * How a file of `pg_wal` lies in the archive: a zstd skippable frame (RFC 8878, 3.1.2) that holds one line of text,
 * then one ordinary zstd frame with the file's bytes. `zstd -d` passes over the first and gives the file.
 *
 * The line tells the SHA-256 of the plain bytes, so whether the same bytes are stored is one small read; and as it is
 * in the same object, it is there exactly when the bytes are: one conditional write decides between two hosts.
 */
export interface StoredWalHead {
  /** SHA-256 of the plain bytes, hexadecimal. */
  sha256: string
  /** Plain bytes. */
  bytes: number
  /** Where the ordinary frame begins. */
  headBytes: number
}

const SKIPPABLE_MAGIC = 0x184d2a50
/** As much of an object as surely holds its head. */
export const HEAD_READ_BYTES = 512
/** The largest file of `pg_wal`: a segment has 1 MiB to 1 GiB, as initdb was told, and is one frame. */
export const MAX_WAL_BYTES = 1024 * 1024 * 1024
const CHUNK_BYTES = 4 * 1024 * 1024

export interface EncodedWalFile {
  /** The skippable frame, then the frame with the bytes: together the object. */
  head: Buffer
  frame: Buffer
  /** Of the plain bytes, hexadecimal. */
  sha256: string
}

/** @param level zstd's @returns the object in its two parts, so that the large one is not copied */
export function encodeWalFrames(plain: Buffer, level: number): EncodedWalFile {
  const sha256 = createHash('sha256').update(plain).digest('hex')
  const line = Buffer.from(`pgrecall-wal 1 sha256=${sha256} bytes=${plain.length}\n`)
  const head = Buffer.alloc(8 + line.length)
  head.writeUInt32LE(SKIPPABLE_MAGIC, 0)
  head.writeUInt32LE(line.length, 4)
  line.copy(head, 8)
  return { head, frame: compressFrame({ method: 'zstd', level }, plain), sha256 }
}

export function encodeWalFile(plain: Buffer, level: number): { object: Buffer; sha256: string } {
  const { head, frame, sha256 } = encodeWalFrames(plain, level)
  return { object: Buffer.concat([head, frame]), sha256 }
}

/** Reads the head from the first bytes of an object; undefined when it has none. */
export function readWalHead(start: Buffer): StoredWalHead | undefined {
  if (start.length < 8 || start.readUInt32LE(0) !== SKIPPABLE_MAGIC) return undefined
  const headBytes = 8 + start.readUInt32LE(4)
  if (headBytes > HEAD_READ_BYTES || start.length < headBytes) return undefined
  const match = /^pgrecall-wal 1 sha256=([0-9a-f]{64}) bytes=(\d{1,12})\n$/.exec(
    start.toString('latin1', 8, headBytes),
  )
  return match ? { sha256: match[1]!, bytes: Number(match[2]), headBytes } : undefined
}

/**
 * The plain bytes of a stored WAL file, checked against what its head says.
 * @throws Error that says what is wrong with the object
 */
export function decodeWalFile(object: Buffer): Buffer {
  const head = readWalHead(object)
  if (!head) throw new Error('it does not begin as pgrecall writes WAL files')
  const frame = object.subarray(head.headBytes)
  const measured = measureFrame(frame)
  if (!measured || measured.bytes !== frame.length)
    throw new Error('it is truncated, or longer than what was stored')
  if (head.bytes > MAX_WAL_BYTES) throw new Error(`it claims to hold ${head.bytes} bytes`)
  const plain = zstdDecompressSync(frame, { chunkSize: CHUNK_BYTES, maxOutputLength: head.bytes || 1 })
  if (plain.length !== head.bytes) throw new Error(`it holds ${plain.length} bytes instead of ${head.bytes}`)
  if (createHash('sha256').update(plain).digest('hex') !== head.sha256)
    throw new Error('its SHA-256 is wrong')
  return plain
}

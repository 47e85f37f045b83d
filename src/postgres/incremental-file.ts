import { DEFAULT_BLOCKS_PER_SEGMENT } from './relation-file.ts'

/**
 * The file that an incremental backup has instead of a relation's: `INCREMENTAL.<name>`. Four-byte little-endian
 * numbers (magic, how many blocks, truncation length, the number of each block), zeros up to a block's boundary, then
 * the blocks. A file without blocks is its twelve bytes alone. Block numbers count from the start of the segment.
 * @see src/backend/backup/basebackup_incremental.c: GetFileBackupMethod, GetIncrementalHeaderSize;
 *   src/backend/backup/basebackup.c: sendFile; src/bin/pg_combinebackup/reconstruct.c: make_incremental_rfile
 */
export interface IncrementalHeader {
  /**
   * The length in blocks that the whole file has at least. Blocks below it that are not here are those of the backup
   * below; there is nothing to take from there at or above it.
   */
  truncationBlocks: number
  /** The numbers of the blocks, in the order in which these follow. */
  blocks: Uint32Array
}

const MAGIC = 0xd3ae1f0d
const PREFIX = 'INCREMENTAL.'

/** Magic, block count, truncation length. */
const FIXED_BYTES = 12

/** `base/5/16384.1` to `base/5/INCREMENTAL.16384.1`. */
export function incrementalName(path: string): string {
  const at = path.lastIndexOf('/') + 1
  return `${path.slice(0, at)}${PREFIX}${path.slice(at)}`
}

/** The path of the file that an incremental one stands for; undefined when the path is not that of such a file. */
export function originalName(path: string): string | undefined {
  const at = path.lastIndexOf('/') + 1
  return path.startsWith(PREFIX, at) && path.length > at + PREFIX.length
    ? `${path.slice(0, at)}${path.slice(at + PREFIX.length)}`
    : undefined
}

/** The bytes before the first block. */
export function incrementalHeaderBytes(blockCount: number, blockBytes: number): number {
  const bytes = FIXED_BYTES + 4 * blockCount
  return blockCount === 0 ? bytes : Math.ceil(bytes / blockBytes) * blockBytes
}

/** The bytes that come before the blocks; they have to follow in the order of `blocks`, which is ascending. */
export function encodeIncrementalHeader(header: IncrementalHeader, blockBytes: number): Buffer {
  const { truncationBlocks, blocks } = header
  const bytes = Buffer.alloc(incrementalHeaderBytes(blocks.length, blockBytes))
  bytes.writeUInt32LE(MAGIC, 0)
  bytes.writeUInt32LE(blocks.length, 4)
  bytes.writeUInt32LE(truncationBlocks, 8)
  blocks.forEach((block, at) => {
    bytes.writeUInt32LE(block, FIXED_BYTES + 4 * at)
  })
  return bytes
}

/** What is known of an incremental file from its first bytes. */
export interface IncrementalStart {
  blockCount: number
  truncationBlocks: number
  /** Where the first block begins. */
  headerBytes: number
  /**
   * The numbers of the blocks, once the bytes reach that far. PostgreSQL writes them ascending, but its
   * `pg_combinebackup` takes them in any order, and so does this.
   */
  blocks?: Uint32Array
}

/**
 * Reads the beginning of an incremental file.
 * @param start its first bytes, as many as are there
 * @param segmentBlocks the blocks in a segment; no number in such a file is past it
 * @returns undefined as long as there are fewer than twelve bytes
 * @throws Error in a sentence, when this is no such file
 */
export function decodeIncrementalHeader(
  start: Buffer,
  blockBytes: number,
  segmentBlocks = DEFAULT_BLOCKS_PER_SEGMENT,
): IncrementalStart | undefined {
  if (start.length < FIXED_BYTES) return undefined
  if (start.readUInt32LE(0) !== MAGIC) throw new Error('it does not begin as an incremental file does')
  const blockCount = start.readUInt32LE(4)
  const truncationBlocks = start.readUInt32LE(8)
  const largest = Math.max(blockCount, truncationBlocks)
  if (largest > segmentBlocks) {
    throw new Error(`it speaks of ${largest} blocks, and a file of a relation has at most ${segmentBlocks}`)
  }
  const headerBytes = incrementalHeaderBytes(blockCount, blockBytes)
  const facts = { blockCount, truncationBlocks, headerBytes }
  if (start.length < headerBytes) return facts
  const blocks = Uint32Array.from({ length: blockCount }, (_, at) => start.readUInt32LE(FIXED_BYTES + 4 * at))
  const beyond = blocks.find((block) => block >= segmentBlocks)
  if (beyond !== undefined) {
    throw new Error(`it has block ${beyond}, and a file of a relation has at most ${segmentBlocks}`)
  }
  return { ...facts, blocks }
}

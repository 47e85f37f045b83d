import { formatLsn, type Lsn } from './lsn.ts'
import { segmentName, segmentNumber, type WalFile } from './wal-file.ts'

/** Bits of `xlp_info` up to PostgreSQL 18, from src/include/access/xlog_internal.h; 19 numbers them anew. */
export const PAGE_FLAGS = {
  /** The page begins with the rest of a record from the page before. */
  firstIsContinuation: 0x1,
  /** The header is the long one, as on the first page of every segment. */
  longHeader: 0x2,
  /** Page images could be left out of an archived copy, as no backup was running. */
  backupBlocksRemovable: 0x4,
  /** The record that was to go on here was lost in a crash; the page begins with another one. */
  firstOverwritesContinuation: 0x8,
  all: 0xf,
} as const

/** The sizes of page headers, both already multiples of 8. */
export const SHORT_HEADER_BYTES = 24
export const LONG_HEADER_BYTES = 40

const MIN_SEGMENT_BYTES = 2 ** 20
const MAX_SEGMENT_BYTES = 2 ** 30

/** What a WAL segment says of itself on its first page. */
export interface SegmentHeader {
  /** The format: 0xD110 is PostgreSQL 15, and it grows from version to version. */
  magic: number
  /** Of the first record on the page; lower than the one in the name where a timeline has just begun. */
  timeline: number
  pageAddress: Lsn
  /** Bytes of the record from the segment before that are still to come. */
  remLength: number
  /** A decimal number of 64 bits. */
  systemIdentifier: string
  segmentBytes: number
  pageBytes: number
}

/**
 * Reads the long page header at the start of a WAL segment.
 * @param buffer the segment, or at least its first 40 bytes
 * @returns undefined when no header that PostgreSQL could have written is there
 * @see XLogLongPageHeaderData in src/include/access/xlog_internal.h
 */
export function readSegmentHeader(buffer: Buffer): SegmentHeader | undefined {
  if (buffer.length < LONG_HEADER_BYTES) return undefined
  const magic = buffer.readUInt16LE(0)
  const flags = buffer.readUInt16LE(2)
  const segmentBytes = buffer.readUInt32LE(32)
  const pageBytes = buffer.readUInt32LE(36)
  const isPlausible =
    (magic >> 8 === 0xd0 || magic >> 8 === 0xd1) &&
    (flags & PAGE_FLAGS.longHeader) !== 0 &&
    isPowerOfTwo(segmentBytes) &&
    segmentBytes >= MIN_SEGMENT_BYTES &&
    segmentBytes <= MAX_SEGMENT_BYTES &&
    isPowerOfTwo(pageBytes) &&
    pageBytes > LONG_HEADER_BYTES &&
    pageBytes <= segmentBytes
  if (!isPlausible) return undefined
  return {
    magic,
    timeline: buffer.readUInt32LE(4),
    pageAddress: buffer.readBigUInt64LE(8),
    remLength: buffer.readUInt32LE(16),
    systemIdentifier: buffer.readBigUInt64LE(24).toString(),
    segmentBytes,
    pageBytes,
  }
}

/**
 * Compares a segment's bytes with what its name promises. Only the first page is looked at: a recycled segment that
 * is being filled has old pages at its end, and that is no mismatch.
 * @param file the name, taken apart
 * @param buffer the whole file
 * @param systemIdentifier the cluster that it must come from, where that is known
 * @returns a sentence that says what is wrong, or undefined when the bytes fit the name
 * @see XLogReaderValidatePageHeader in src/backend/access/transam/xlogreader.c
 */
export function describeSegmentMismatch(
  file: Extract<WalFile, { kind: 'segment' | 'partial' }>,
  buffer: Buffer,
  systemIdentifier?: string,
): string | undefined {
  const header = readSegmentHeader(buffer)
  if (!header) return `${file.name} does not begin with the header of a WAL segment`
  const { segmentBytes, pageAddress, timeline } = header
  if (buffer.length !== segmentBytes) {
    return `${file.name} has ${buffer.length} bytes, but its header says that a segment has ${segmentBytes}`
  }
  const isStart = pageAddress % BigInt(segmentBytes) === 0n
  const rightName = segmentName(file.timeline, segmentNumber(pageAddress, segmentBytes), segmentBytes)
  if (!isStart || !file.name.startsWith(rightName)) {
    return `${file.name} holds other WAL than its name says: it begins at ${formatLsn(pageAddress)}`
  }
  // A lower one is fine: the first segment of a new timeline begins with pages copied from the old.
  if (timeline > file.timeline) {
    return `${file.name} holds WAL of timeline ${timeline}, which its name does not say`
  }
  if (systemIdentifier !== undefined && header.systemIdentifier !== systemIdentifier) {
    return `${file.name} comes from another cluster: its system identifier is ${header.systemIdentifier}, not ${systemIdentifier}`
  }
  return undefined
}

function isPowerOfTwo(value: number): boolean {
  return value > 0 && (value & (value - 1)) === 0
}

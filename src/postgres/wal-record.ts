import { extendCrc32c } from './crc32c.ts'
import type { Lsn } from './lsn.ts'

/** A record at which a recovery can stop. Times are in microseconds since 1970; `endLsn` is the first byte after it. */
export type WalRecord =
  /** The end of a transaction, prepared ones included; an abort may also be that of a subtransaction. */
  | { kind: 'commit' | 'abort'; lsn: Lsn; endLsn: Lsn; xid: number; timeMicros: bigint }
  | { kind: 'restorePoint'; lsn: Lsn; endLsn: Lsn; name: string; timeMicros: bigint }

/** A record of which a part is read, while the rest is on pages to come. */
export interface UnfinishedRecord {
  /** Where it begins; undefined when the reading began in the middle of it. */
  lsn: Lsn | undefined
  totalBytes: number
  gotBytes: number
  /** What has been read of it; undefined once it is known to be of no interest, so that it costs no memory. */
  parts: Buffer[] | undefined
}

/** What reading a segment needs to know of the one before. It holds no part of that segment's buffer. */
export interface Carry {
  /** The segment that it leads to. */
  segmentStart: Lsn
  /** Where the last complete record begins; undefined when none has been read. */
  previous: Lsn | undefined
  /** Of the last page. */
  timeline: number
  unfinished: UnfinishedRecord | undefined
}

/** What a segment holds. */
export interface SegmentRecords {
  /** In the order of the WAL. */
  records: WalRecord[]
  /**
   * The end of the last complete record: what follows is not WAL, or not yet. Equal to the segment's start, or to the
   * start of the carried record, when no record ends in this segment.
   */
  validUntil: Lsn
  /** For reading the next segment; undefined when valid WAL ends within this one. */
  carry: Carry | undefined
}

/** PostgreSQL counts time from 2000-01-01, the project from 1970-01-01. */
const EPOCH_MICROS = 946_684_800_000_000n

/** Microseconds since 1970 as a TimestampTz, microseconds since 2000. @see src/include/datatype/timestamp.h */
export function toPostgresMicros(unixMicros: bigint): bigint {
  return unixMicros - EPOCH_MICROS
}

/** A TimestampTz, microseconds since 2000, as microseconds since 1970. @see src/include/datatype/timestamp.h */
export function fromPostgresMicros(postgresMicros: bigint): bigint {
  return postgresMicros + EPOCH_MICROS
}

/** Sizes and places in XLogRecord, from src/include/access/xlogrecord.h. */
export const HEADER_BYTES = 24
const XID_AT = 4
export const PREVIOUS_AT = 8
const INFO_AT = 16
const RMGR_AT = 17
const CRC_AT = 20

/** Resource managers, from src/include/access/rmgrlist.h. */
const RMGR_XLOG = 0
const RMGR_XACT = 1

/** From src/include/catalog/pg_control.h; the low four bits of `xl_info` belong to the WAL itself. */
const XLOG_OPERATION = 0xf0
const XLOG_SWITCH = 0x40
const XLOG_RESTORE_POINT = 0x70

/** From src/include/access/xact.h. */
const XACT_OPERATION = 0x70
const XACT_COMMIT = 0x00
const XACT_ABORT = 0x20
const XACT_COMMIT_PREPARED = 0x30
const XACT_ABORT_PREPARED = 0x40
const XACT_HAS_INFO = 0x80
const XINFO = {
  database: 0x1,
  subtransactions: 0x2,
  relations: 0x4,
  invalidations: 0x8,
  twoPhase: 0x10,
  droppedStatistics: 0x100,
} as const

/** What stands where a block's number would, from src/include/access/xlogrecord.h. */
const BLOCK_ID = { dataShort: 255, dataLong: 254, origin: 253, topLevelXid: 252 } as const

/** The first WAL format in which an entry of dropped statistics has 16 bytes instead of 12: PostgreSQL 18. */
const WIDE_STATISTICS_MAGIC = 0xd117

/** Whether a record, by its header at `at`, is one that `decode` knows. */
export function isInteresting(bytes: Buffer, at: number): boolean {
  const rmgr = bytes[at + RMGR_AT]
  const info = bytes[at + INFO_AT]!
  if (rmgr === RMGR_XLOG) return (info & XLOG_OPERATION) === XLOG_RESTORE_POINT
  return rmgr === RMGR_XACT && endOf(info) !== undefined
}

/** A switch ends its segment: nothing follows it there. */
export function isSwitch(bytes: Buffer, at: number): boolean {
  return bytes[at + RMGR_AT] === RMGR_XLOG && (bytes[at + INFO_AT]! & XLOG_OPERATION) === XLOG_SWITCH
}

function endOf(info: number): 'commit' | 'abort' | undefined {
  switch (info & XACT_OPERATION) {
    case XACT_COMMIT:
    case XACT_COMMIT_PREPARED:
      return 'commit'
    case XACT_ABORT:
    case XACT_ABORT_PREPARED:
      return 'abort'
    default:
      return undefined
  }
}

/** The CRC covers the body first and then the header in front of it. */
export function hasRightCrc(bytes: Buffer, at: number, total: number): boolean {
  const body = extendCrc32c(0xffffffff, bytes, at + HEADER_BYTES, at + total)
  const register = extendCrc32c(body, bytes, at, at + CRC_AT)
  return ~register >>> 0 === bytes.readUInt32LE(at + CRC_AT)
}

/** What the record from `at` to `end` says. Ranges instead of views, which would be most of the work. */
export function decode(
  bytes: Buffer,
  at: number,
  end: number,
  lsn: Lsn,
  endLsn: Lsn,
  magic: number,
): WalRecord | undefined {
  const data = mainDataAt(bytes, at, end)
  if (data === undefined || data + 8 > end) return undefined
  const timeMicros = fromPostgresMicros(bytes.readBigInt64LE(data))
  if (bytes[at + RMGR_AT] === RMGR_XLOG) {
    const [name] = bytes.toString('utf8', data + 8, end).split('\0', 1)
    return { kind: 'restorePoint', lsn, endLsn, name: name!, timeMicros }
  }
  const info = bytes[at + INFO_AT]!
  const prepared = info & XACT_HAS_INFO ? preparedXid(bytes, data + 8, end, magic) : undefined
  return { kind: endOf(info)!, lsn, endLsn, xid: prepared ?? bytes.readUInt32LE(at + XID_AT), timeMicros }
}

/**
 * Where the part of a record begins that belongs to no block; it reaches to the record's end. Undefined where blocks
 * precede it, which these records have none of.
 */
function mainDataAt(bytes: Buffer, record: number, end: number): number | undefined {
  for (let at = record + HEADER_BYTES; at < end; ) {
    switch (bytes[at]) {
      case BLOCK_ID.dataShort:
        return at + 2
      case BLOCK_ID.dataLong:
        return at + 5
      case BLOCK_ID.origin:
        at += 3
        break
      case BLOCK_ID.topLevelXid:
        at += 5
        break
      default:
        return undefined
    }
  }
  return undefined
}

/**
 * The xid of a prepared transaction, which whoever finishes it does not bear: it stands behind the lists of what the
 * transaction touched. `from` is the place behind the time.
 * @see ParseCommitRecord in src/backend/access/rmgrdesc/xactdesc.c
 */
function preparedXid(bytes: Buffer, from: number, end: number, magic: number): number | undefined {
  if (from + 4 > end) return undefined
  const contents = bytes.readUInt32LE(from)
  if (!(contents & XINFO.twoPhase)) return undefined
  let at = from + 4
  if (contents & XINFO.database) at += 8
  for (const [flag, entryBytes] of [
    [XINFO.subtransactions, 4],
    [XINFO.relations, 12],
    [XINFO.droppedStatistics, magic >= WIDE_STATISTICS_MAGIC ? 16 : 12],
    [XINFO.invalidations, 16],
  ] as const) {
    if (!(contents & flag)) continue
    if (at + 4 > end) return undefined
    at += 4 + bytes.readUInt32LE(at) * entryBytes
  }
  return at + 4 <= end ? bytes.readUInt32LE(at) : undefined
}

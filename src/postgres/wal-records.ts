import { crc32c } from './crc32c.ts'
import type { Lsn } from './lsn.ts'
import { LONG_HEADER_BYTES, PAGE_FLAGS, readSegmentHeader, SHORT_HEADER_BYTES } from './wal-page.ts'

/** A record at which a recovery can stop. Times are in microseconds since 1970; `endLsn` is the first byte after it. */
export type WalRecord =
  /** The end of a transaction, prepared ones included; an abort may also be that of a subtransaction. */
  | { kind: 'commit' | 'abort'; lsn: Lsn; endLsn: Lsn; xid: number; timeMicros: bigint }
  | { kind: 'restorePoint'; lsn: Lsn; endLsn: Lsn; name: string; timeMicros: bigint }

/** A record whose beginning is read and whose rest is in the segments to come. */
export interface UnfinishedRecord {
  /** Undefined when the reading began in the middle of it. */
  lsn: Lsn | undefined
  totalBytes: number
  gotBytes: number
  /** What has been read of it, as long as it may be needed: all, the header only, or nothing. */
  bytes: Buffer
}

/** What reading a segment needs to know of the one before. It holds no part of that segment's buffer. */
export interface Carry {
  segmentStart: Lsn
  /** Where the last complete record begins; undefined when none has been read. */
  previous: Lsn | undefined
  /** Of the last page. */
  timeline: number
  unfinished: UnfinishedRecord | undefined
}

export interface SegmentRecords {
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

/**
 * Reads the transactions' ends and the restore points of a WAL segment, of PostgreSQL 9.6 to 18.
 *
 * Segments are recycled, so behind the end of valid WAL stand zeros or old records. The walk stops where a page's
 * address, a record's length or its link to the record before is wrong. What it returns has a correct CRC; so has the
 * last record before such a stop, as only that one can have been cut off.
 * @param segment the whole file, or its beginning
 * @param options `segmentStart` is the LSN that the file's name gives. `carry` comes from the segment before: without
 *   it, or with one that leads elsewhere, the rest of a record at the start is skipped
 * @see src/backend/access/transam/xlogreader.c, whose checks these are
 */
export function readRecords(
  segment: Buffer,
  options: { segmentStart: Lsn; carry?: Carry | undefined },
): SegmentRecords {
  const carry = options.carry?.segmentStart === options.segmentStart ? options.carry : undefined
  return new SegmentWalk(segment, options.segmentStart, carry).run()
}

/** Sizes and places in XLogRecord, from src/include/access/xlogrecord.h. */
const HEADER_BYTES = 24
const XID_AT = 4
const PREVIOUS_AT = 8
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

/** The first WAL format in which an entry of dropped statistics has 16 bytes instead of 12: PostgreSQL 18. */
const WIDE_STATISTICS_MAGIC = 0xd117

/** Where valid WAL ends. */
const STOP = -1

/**
 * One walk over one segment. Places are offsets in the segment and LSNs two halves, because a walk touches a hundred
 * thousand records, and bigints or objects for each of them would take most of its time.
 */
class SegmentWalk {
  readonly #segment: Buffer
  readonly #start: Lsn
  readonly #startHigh: number
  readonly #startLow: number
  readonly #records: WalRecord[] = []
  #magic = 0
  #pageBytes = 0
  #segmentBytes = 0
  /** The end of the last whole page at hand. */
  #end = 0

  #pageFlags = 0
  #pageHeaderBytes = 0
  #pageRemLength = 0
  #timeline: number

  #hasPrevious = false
  #previousHigh = 0
  #previousLow = 0
  /** The last record, if all of it lies in this segment and nobody has looked at its CRC. */
  #uncheckedAt = STOP

  #unfinished: UnfinishedRecord | undefined
  /** The parts of the unfinished record that this segment adds to its `bytes`. */
  #parts: Buffer[] = []
  #validUntil: Lsn

  constructor(segment: Buffer, start: Lsn, carry: Carry | undefined) {
    this.#segment = segment
    this.#start = start
    this.#startHigh = Number(start >> 32n)
    this.#startLow = Number(start & 0xffffffffn)
    this.#timeline = carry?.timeline ?? 0
    if (carry?.previous !== undefined) this.#setPrevious(carry.previous)
    if (carry?.unfinished) {
      this.#unfinished = { ...carry.unfinished }
      this.#parts = [carry.unfinished.bytes]
    }
    this.#validUntil = carry?.unfinished?.lsn ?? start
  }

  run(): SegmentRecords {
    const header = readSegmentHeader(this.#segment)
    if (header?.pageAddress !== this.#start) return this.#result(undefined)
    this.#magic = header.magic
    this.#pageBytes = header.pageBytes
    this.#segmentBytes = header.segmentBytes
    const length = Math.min(this.#segment.length, header.segmentBytes)
    this.#end = length - (length % header.pageBytes)

    let at = this.#resume()
    while (at !== STOP && at < this.#end) at = this.#step(at)
    if (at === this.#segmentBytes) return this.#result(this.#carry())
    this.#distrustLast()
    return this.#result(undefined)
  }

  /** Goes over the rest of a record from the segment before, or over nothing. */
  #resume(): number {
    if (!this.#enterPage(0)) return STOP
    if (!this.#unfinished && this.#pageFlags & PAGE_FLAGS.firstIsContinuation) {
      this.#unfinished = {
        lsn: undefined,
        totalBytes: this.#pageRemLength,
        gotBytes: 0,
        bytes: Buffer.alloc(0),
      }
    }
    return this.#unfinished ? this.#finish(0) : 0
  }

  /** Reads the record at `at`, or the first one of the page that begins there; gives the place after it. */
  #step(at: number): number {
    let record = at
    const inPage = at % this.#pageBytes
    if (inPage === 0) {
      if (!this.#enterPage(at) || this.#pageFlags & PAGE_FLAGS.firstIsContinuation) return STOP
      record += this.#pageHeaderBytes
    }
    const segment = this.#segment
    const room = at - inPage + this.#pageBytes - record
    const total = segment.readUInt32LE(record)
    if (total < HEADER_BYTES) return STOP
    if (total > room) {
      const bytes = Buffer.alloc(0)
      this.#unfinished = { lsn: this.#lsnAt(record), totalBytes: total, gotBytes: room, bytes }
      this.#parts = [segment.subarray(record, record + room)]
      if (room >= HEADER_BYTES && !this.#acceptHeader()) return STOP
      return this.#finish(record + room)
    }
    if (!this.#followsPrevious(segment, record, this.#startHigh, this.#startLow + record)) return STOP
    const end = isSwitch(segment, record) ? this.#segmentBytes : record + align(total)
    if (isInteresting(segment, record)) {
      const bytes = segment.subarray(record, record + total)
      if (!this.#take(bytes, this.#lsnAt(record), this.#lsnAt(end))) return STOP
      this.#uncheckedAt = STOP
    } else {
      this.#uncheckedAt = record
    }
    this.#hasPrevious = true
    this.#previousHigh = this.#startHigh
    this.#previousLow = this.#startLow + record
    return end
  }

  /** Goes on with the unfinished record at a page boundary; gives the place after it, or the end of the segment. */
  #finish(boundary: number): number {
    const unfinished = this.#unfinished!
    for (let at = boundary; at < this.#end; at += this.#pageBytes) {
      if (!this.#enterPage(at)) return STOP
      if (this.#pageFlags & PAGE_FLAGS.firstOverwritesContinuation) {
        this.#unfinished = undefined
        this.#validUntil = this.#lsnAt(at)
        return at
      }
      const remaining = unfinished.totalBytes - unfinished.gotBytes
      if (!(this.#pageFlags & PAGE_FLAGS.firstIsContinuation) || this.#pageRemLength !== remaining)
        return STOP
      const from = at + this.#pageHeaderBytes
      const length = Math.min(remaining, this.#pageBytes - this.#pageHeaderBytes)
      if (unfinished.lsn !== undefined && !this.#append(from, length)) return STOP
      if (unfinished.lsn === undefined) unfinished.gotBytes += length
      if (unfinished.gotBytes === unfinished.totalBytes) return this.#complete(from + align(length))
    }
    return this.#end
  }
}

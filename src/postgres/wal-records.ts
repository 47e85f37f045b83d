import type { Lsn } from './lsn.ts'
import {
  LONG_HEADER_BYTES,
  PAGE_FLAGS,
  readSegmentHeader,
  type SegmentHeader,
  SHORT_HEADER_BYTES,
} from './wal-page.ts'
import {
  type Carry,
  decode,
  HEADER_BYTES,
  hasRightCrc,
  isInteresting,
  isSwitch,
  PREVIOUS_AT,
  type SegmentRecords,
  type UnfinishedRecord,
  type WalRecord,
} from './wal-record.ts'

/**
 * Reads the transactions' ends and the restore points of a WAL segment, of PostgreSQL 9.6 to 18.
 *
 * Segments are recycled, so behind the end of valid WAL stand zeros or old records. The walk ends where a page's
 * address, a record's length or its link to the record before is wrong. What is returned has a correct CRC; so has the
 * last record before such an end, which is the one that can have been cut off.
 * @param segment the whole file, or its beginning
 * @param options `segmentStart` is the LSN that the file's name gives. `carry` comes from the segment before: without
 *   it, or with one that leads elsewhere, the rest of a record at the start is skipped. `everyCrc` compares the CRC of each
 *   record, and ends the walk before the first wrong one
 * @see src/backend/access/transam/xlogreader.c, whose checks these are
 */
export function readRecords(
  segment: Buffer,
  options: { segmentStart: Lsn; carry?: Carry | undefined; everyCrc?: boolean },
): SegmentRecords {
  const { segmentStart } = options
  const carry = options.carry?.segmentStart === segmentStart ? options.carry : undefined
  const header = readSegmentHeader(segment)
  if (header?.pageAddress !== segmentStart || segmentStart % BigInt(header.segmentBytes) !== 0n) {
    return { records: [], validUntil: carry?.unfinished?.lsn ?? segmentStart, carry: undefined }
  }
  return new SegmentWalk(segment, header, carry, options.everyCrc ?? false).run()
}

/** Where valid WAL ends. */
const STOP = -1

/**
 * One walk over one segment. Places are offsets in the segment and LSNs two halves, because a walk touches a hundred
 * thousand records, and a bigint or an object for each of them would take most of its time.
 */
class SegmentWalk {
  readonly #segment: Buffer
  readonly #records: WalRecord[] = []
  readonly #magic: number
  readonly #pageBytes: number
  readonly #segmentBytes: number
  readonly #start: Lsn
  readonly #startHigh: number
  readonly #startLow: number
  /** The end of the last whole page at hand. */
  readonly #end: number
  readonly #everyCrc: boolean

  #pageFlags = 0
  #pageHeaderBytes = 0
  #pageRemLength = 0
  #timeline: number

  #hasPrevious = false
  #previousHigh = 0
  #previousLow = 0
  #unfinished: UnfinishedRecord | undefined
  /** The end of the last complete record, if one ends in this segment. */
  #validAt: number | undefined
  /** The last complete record, if all of it lies in this segment and its CRC has not been checked. */
  #uncheckedAt: number | undefined

  constructor(segment: Buffer, header: SegmentHeader, carry: Carry | undefined, everyCrc: boolean) {
    this.#segment = segment
    this.#everyCrc = everyCrc
    this.#magic = header.magic
    this.#pageBytes = header.pageBytes
    this.#segmentBytes = header.segmentBytes
    this.#start = header.pageAddress
    this.#startHigh = high(this.#start)
    this.#startLow = low(this.#start)
    const length = Math.min(segment.length, header.segmentBytes)
    this.#end = length - (length % header.pageBytes)
    this.#timeline = carry?.timeline ?? 0
    if (carry?.previous !== undefined) this.#setPrevious(high(carry.previous), low(carry.previous))
    this.#unfinished = carry?.unfinished && copyOf(carry.unfinished)
  }

  run(): SegmentRecords {
    const before = this.#unfinished?.lsn ?? this.#start
    let at = this.#resume()
    while (at !== STOP && at < this.#end) at = this.#step(at)
    const isWhole = at === this.#segmentBytes
    if (!isWhole) this.#distrustLast()
    return {
      records: this.#records,
      validUntil: this.#validAt === undefined ? before : this.#lsnAt(this.#validAt),
      carry: isWhole ? this.#carry() : undefined,
    }
  }

  /** Goes over the rest of a record from the segment before, if there is one. */
  #resume(): number {
    if (this.#end === 0 || !this.#enterPage(0)) return STOP
    const isContinued = (this.#pageFlags & PAGE_FLAGS.firstIsContinuation) !== 0
    if (!this.#unfinished && !isContinued) return 0
    this.#unfinished ??= { lsn: undefined, totalBytes: this.#pageRemLength, gotBytes: 0, parts: undefined }
    return this.#finish(0)
  }

  /** Reads the record at `at`, or the first one of the page that begins there; gives the place after it. */
  #step(at: number): number {
    const segment = this.#segment
    const inPage = at % this.#pageBytes
    let record = at
    if (inPage === 0) {
      if (!this.#enterPage(at) || this.#pageFlags & PAGE_FLAGS.firstIsContinuation) return STOP
      record += this.#pageHeaderBytes
    }
    const room = at - inPage + this.#pageBytes - record
    const total = segment.readUInt32LE(record)
    if (total < HEADER_BYTES) return STOP
    if (total > room) {
      this.#unfinished = { lsn: this.#lsnAt(record), totalBytes: total, gotBytes: 0, parts: [] }
      return this.#append(record, room) ? this.#finish(record + room) : STOP
    }
    if (!this.#followsPrevious(segment, record, this.#startHigh, this.#startLow + record)) return STOP
    const next = isSwitch(segment, record) ? this.#segmentBytes : record + align(total)
    if (this.#isToTake(segment, record)) {
      if (!this.#take(segment, record, total, this.#lsnAt(record), this.#lsnAt(next))) return STOP
      this.#uncheckedAt = undefined
    } else {
      this.#uncheckedAt = record
    }
    this.#setPrevious(this.#startHigh, this.#startLow + record)
    this.#validAt = next
    return next
  }

  /** Goes on with the unfinished record at a page boundary; gives the place after it, or the end of what is at hand. */
  #finish(boundary: number): number {
    const unfinished = this.#unfinished!
    for (let at = boundary; at < this.#end; at += this.#pageBytes) {
      if (!this.#enterPage(at)) return STOP
      if (this.#pageFlags & PAGE_FLAGS.firstOverwritesContinuation) {
        this.#unfinished = undefined
        return at
      }
      const missing = unfinished.totalBytes - unfinished.gotBytes
      const isContinued = (this.#pageFlags & PAGE_FLAGS.firstIsContinuation) !== 0
      if (!isContinued || this.#pageRemLength !== missing || missing === 0) return STOP
      const from = at + this.#pageHeaderBytes
      const length = Math.min(missing, this.#pageBytes - this.#pageHeaderBytes)
      if (!this.#append(from, length)) return STOP
      if (length === missing) return this.#complete(unfinished, from + align(length))
    }
    return this.#end
  }

  /** Adds a part to the unfinished record; false when its header, now complete, is none. */
  #append(from: number, length: number): boolean {
    const unfinished = this.#unfinished!
    const hadHeader = unfinished.gotBytes >= HEADER_BYTES
    unfinished.gotBytes += length
    if (unfinished.lsn === undefined || !unfinished.parts) return true
    unfinished.parts.push(this.#segment.subarray(from, from + length))
    if (hadHeader || unfinished.gotBytes < HEADER_BYTES) return true
    const bytes = Buffer.concat(unfinished.parts)
    if (!this.#followsPrevious(bytes, 0, high(unfinished.lsn), low(unfinished.lsn))) return false
    if (!this.#isToTake(bytes, 0) && !isSwitch(bytes, 0)) unfinished.parts = undefined
    return true
  }

  /** Closes the unfinished record, which ends at `end`; gives the place of the next one. */
  #complete({ lsn, parts }: UnfinishedRecord, end: number): number {
    this.#unfinished = undefined
    const bytes = parts && Buffer.concat(parts)
    const next = bytes && isSwitch(bytes, 0) ? this.#segmentBytes : end
    const isToTake = lsn !== undefined && bytes !== undefined && this.#isToTake(bytes, 0)
    if (isToTake && !this.#take(bytes, 0, bytes.length, lsn, this.#lsnAt(next))) return STOP
    const isUnchecked = !isToTake && lsn !== undefined && lsn >= this.#start
    this.#uncheckedAt = isUnchecked ? Number(lsn - this.#start) : undefined
    if (lsn !== undefined) this.#setPrevious(high(lsn), low(lsn))
    this.#validAt = next
    return next
  }

  #isToTake(bytes: Buffer, at: number): boolean {
    return this.#everyCrc || isInteresting(bytes, at)
  }

  /** Decodes a whole record into the result, if it is of interest; false when its CRC is wrong. */
  #take(bytes: Buffer, at: number, total: number, lsn: Lsn, endLsn: Lsn): boolean {
    if (!hasRightCrc(bytes, at, total)) return false
    const record = isInteresting(bytes, at) && decode(bytes, at, at + total, lsn, endLsn, this.#magic)
    if (record) this.#records.push(record)
    return true
  }

  /** Takes in the header of the page at `at`; false when it is not the page that belongs there. */
  #enterPage(at: number): boolean {
    const segment = this.#segment
    const flags = segment.readUInt16LE(at + 2)
    const timeline = segment.readUInt32LE(at + 4)
    const isExpected =
      segment.readUInt16LE(at) === this.#magic &&
      (flags & ~PAGE_FLAGS.all) === 0 &&
      segment.readUInt32LE(at + 8) === this.#startLow + at &&
      segment.readUInt32LE(at + 12) === this.#startHigh &&
      timeline >= this.#timeline
    if (!isExpected) return false
    this.#timeline = timeline
    this.#pageFlags = flags
    this.#pageHeaderBytes = flags & PAGE_FLAGS.longHeader ? LONG_HEADER_BYTES : SHORT_HEADER_BYTES
    this.#pageRemLength = segment.readUInt32LE(at + 16)
    return true
  }

  /** Whether the header at `at` links back to the record read last or, at the beginning, to any earlier one. */
  #followsPrevious(bytes: Buffer, at: number, ownHigh: number, ownLow: number): boolean {
    const previousLow = bytes.readUInt32LE(at + PREVIOUS_AT)
    const previousHigh = bytes.readUInt32LE(at + PREVIOUS_AT + 4)
    if (this.#hasPrevious) return previousLow === this.#previousLow && previousHigh === this.#previousHigh
    return previousHigh < ownHigh || (previousHigh === ownHigh && previousLow < ownLow)
  }

  #setPrevious(previousHigh: number, previousLow: number): void {
    this.#hasPrevious = true
    this.#previousHigh = previousHigh
    this.#previousLow = previousLow
  }

  /** A crash or an unfinished copy can leave a good header before a body that was never written. */
  #distrustLast(): void {
    if (this.#uncheckedAt === undefined) return
    const bytes = this.#gather(this.#uncheckedAt)
    if (!hasRightCrc(bytes, 0, bytes.length)) this.#validAt = this.#uncheckedAt
  }

  /** The bytes of a record whose pages have all been entered, without the headers of these pages. */
  #gather(record: number): Buffer {
    const parts: Buffer[] = []
    let missing = this.#segment.readUInt32LE(record)
    for (let from = record; missing > 0; ) {
      if (from % this.#pageBytes === 0) {
        const isLong = (this.#segment.readUInt16LE(from + 2) & PAGE_FLAGS.longHeader) !== 0
        from += isLong ? LONG_HEADER_BYTES : SHORT_HEADER_BYTES
      }
      const length = Math.min(missing, this.#pageBytes - (from % this.#pageBytes))
      parts.push(this.#segment.subarray(from, from + length))
      from += length
      missing -= length
    }
    return Buffer.concat(parts)
  }

  #lsnAt(at: number): Lsn {
    return this.#start + BigInt(at)
  }

  #carry(): Carry {
    const previous = (BigInt(this.#previousHigh) << 32n) | BigInt(this.#previousLow)
    return {
      segmentStart: this.#lsnAt(this.#segmentBytes),
      previous: this.#hasPrevious ? previous : undefined,
      timeline: this.#timeline,
      unfinished: this.#unfinished && copyOf(this.#unfinished),
    }
  }
}

/** A copy with bytes of its own: a walk changes the one, and the other outlives the segment's buffer. */
function copyOf(record: UnfinishedRecord): UnfinishedRecord {
  return { ...record, parts: record.parts && [Buffer.concat(record.parts)] }
}

/** Records begin at multiples of 8: MAXALIGN. */
function align(bytes: number): number {
  return Math.ceil(bytes / 8) * 8
}

function high(lsn: Lsn): number {
  return Number(lsn >> 32n)
}

function low(lsn: Lsn): number {
  return Number(lsn & 0xffffffffn)
}

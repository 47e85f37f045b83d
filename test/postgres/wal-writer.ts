import { crc32c } from '../../src/postgres/crc32c.ts'
import { type Lsn, lsn } from '../../src/postgres/lsn.ts'
import { toPostgresMicros, type WalRecord } from '../../src/postgres/wal-record.ts'

export const SEGMENT = 2 ** 20
export const PAGE = 8192
export const START = lsn('5/FFE00000')
/** 2026-11-20 17:29:00.123456+00 */
export const MOMENT = 1_795_195_740_123_456n

export const XACT = 1
export const HEAP = 10
export const CONTINUED = 0x1
export const LONG = 0x2
export const REMOVABLE = 0x4
export const OVERWRITES = 0x8

export interface RecordParts {
  rmgr?: number
  info?: number
  xid?: number
  /** The main data. */
  data?: Buffer
  /** Headers in front of the main data's own. */
  before?: Buffer
}

/** Writes WAL as the server does, from `START` on, in segments of 1 MiB. */
export class WalWriter {
  readonly bytes: Buffer
  readonly #magic: number
  at = 0
  previous: Lsn = START - 64n

  constructor(segments: number, magic = 0xd110) {
    this.bytes = Buffer.alloc(segments * SEGMENT)
    this.#magic = magic
  }

  get lsn(): Lsn {
    return START + BigInt(this.at)
  }

  segment(index: number): Buffer {
    return this.bytes.subarray(index * SEGMENT, (index + 1) * SEGMENT)
  }

  page(flags: number, remLength: number): void {
    const isFirst = this.at % SEGMENT === 0
    const { bytes, at } = this
    bytes.writeUInt16LE(this.#magic, at)
    bytes.writeUInt16LE(flags | REMOVABLE | (isFirst ? LONG : 0), at + 2)
    bytes.writeUInt32LE(1, at + 4)
    bytes.writeBigUInt64LE(this.lsn, at + 8)
    bytes.writeUInt32LE(remLength, at + 16)
    if (isFirst) {
      bytes.writeBigUInt64LE(42n, at + 24)
      bytes.writeUInt32LE(SEGMENT, at + 32)
      bytes.writeUInt32LE(PAGE, at + 36)
    }
    this.at += isFirst ? 40 : 24
  }

  add(parts: RecordParts): { lsn: Lsn; endLsn: Lsn } {
    if (this.at % PAGE === 0) this.page(0, 0)
    const place = this.lsn
    const record = recordBytes(parts, this.previous)
    for (let done = 0; done < record.length; ) {
      if (this.at % PAGE === 0) this.page(CONTINUED, record.length - done)
      const length = Math.min(record.length - done, PAGE - (this.at % PAGE))
      record.copy(this.bytes, this.at, done, done + length)
      done += length
      this.at += length
    }
    this.at = Math.ceil(this.at / 8) * 8
    this.previous = place
    return { lsn: place, endLsn: this.lsn }
  }

  commit(xid: number): WalRecord {
    return { kind: 'commit', xid, timeMicros: MOMENT, ...this.add({ rmgr: XACT, xid, data: timeBytes() }) }
  }

  /** Fills the page with one record until so many bytes of it are left. */
  fillPageTo(left: number): void {
    if (this.at % PAGE === 0) this.page(0, 0)
    const room = PAGE - (this.at % PAGE)
    this.add({ data: Buffer.alloc(room - left - 24 - 5) })
  }

  fillSegmentTo(left: number): void {
    while (this.at < SEGMENT - PAGE) this.fillPageTo(0)
    this.fillPageTo(left)
  }
}

/** Always with the long form of the main data's header. */
export function recordBytes(
  { rmgr = HEAP, info = 0, xid = 0, data = Buffer.alloc(0), before = Buffer.alloc(0) }: RecordParts,
  previous: Lsn,
): Buffer {
  const header = Buffer.alloc(24)
  const dataHeader = Buffer.alloc(5)
  dataHeader[0] = 254
  dataHeader.writeUInt32LE(data.length, 1)
  const isBare = data.length === 0 && before.length === 0
  const body = isBare ? Buffer.alloc(0) : Buffer.concat([before, dataHeader, data])
  header.writeUInt32LE(header.length + body.length, 0)
  header.writeUInt32LE(xid, 4)
  header.writeBigUInt64LE(previous, 8)
  header[16] = info
  header[17] = rmgr
  header.writeUInt32LE(crc32c(body, header.subarray(0, 20)), 20)
  return Buffer.concat([header, body])
}

export function timeBytes(): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigInt64LE(toPostgresMicros(MOMENT))
  return bytes
}

export const words = (...values: number[]) =>
  Buffer.concat(
    values.map((value) => {
      const bytes = Buffer.alloc(4)
      bytes.writeUInt32LE(value)
      return bytes
    }),
  )

import { describe, expect, test } from 'vitest'
import type { Lsn } from '../../src/postgres/lsn.ts'
import {
  type Carry,
  fromPostgresMicros,
  toPostgresMicros,
  type WalRecord,
} from '../../src/postgres/wal-record.ts'
import { readRecords } from '../../src/postgres/wal-records.ts'
import {
  MOMENT,
  OVERWRITES,
  PAGE,
  type RecordParts,
  SEGMENT,
  START,
  timeBytes,
  WalWriter,
  words,
  XACT,
} from './wal-writer.ts'

/** Reads all segments in their order. */
function readAll(wal: WalWriter): { records: WalRecord[]; validUntil: Lsn; carry: Carry | undefined } {
  const records: WalRecord[] = []
  let carry: Carry | undefined
  let validUntil = START
  for (let index = 0; index * SEGMENT < wal.bytes.length; index++) {
    const read = readRecords(wal.segment(index), { segmentStart: START + BigInt(index * SEGMENT), carry })
    records.push(...read.records)
    validUntil = read.validUntil
    carry = read.carry
    if (!carry) break
  }
  return { records, validUntil, carry }
}

test('times are counted from 2000 by PostgreSQL', () => {
  expect(fromPostgresMicros(0n)).toBe(BigInt(Date.UTC(2000, 0, 1)) * 1000n)
  expect(toPostgresMicros(fromPostgresMicros(-5n))).toBe(-5n)
})

describe('what a record says', () => {
  const one = (parts: RecordParts, magic?: number) => {
    const wal = new WalWriter(1, magic)
    wal.add(parts)
    return readAll(wal).records.map(({ lsn: _, endLsn: __, ...rest }) => rest)
  }

  test.each([
    [0x00, 'commit'],
    [0x20, 'abort'],
    [0x30, 'commit'],
    [0x40, 'abort'],
    [0x80, 'commit'],
    [0xa0, 'abort'],
  ])('operation %i of a transaction is its %s', (info, kind) => {
    const data = Buffer.concat([timeBytes(), words(0)])
    expect(one({ rmgr: XACT, info, xid: 7, data })).toEqual([{ kind, xid: 7, timeMicros: MOMENT }])
  })

  test.each([0x10, 0x50, 0x60])('operation %i of a transaction is not its end', (info) => {
    expect(one({ rmgr: XACT, info, xid: 7, data: timeBytes() })).toEqual([])
  })

  test('a restore point has a name, which ends at the first zero', () => {
    const name = Buffer.alloc(64, 'x')
    name.write('before the änderung\0')
    expect(one({ rmgr: 0, info: 0x70, data: Buffer.concat([timeBytes(), name]) })).toEqual([
      { kind: 'restorePoint', name: 'before the änderung', timeMicros: MOMENT },
    ])
  })

  test('an origin and a top-level xid may stand before the main data', () => {
    const before = Buffer.from([253, 1, 2, 252, 1, 2, 3, 4])
    expect(one({ rmgr: XACT, xid: 7, before, data: timeBytes() })).toHaveLength(1)
  })

  test.each([
    ['PostgreSQL 15 to 17', 0xd116, 12],
    ['PostgreSQL 18', 0xd118, 16],
  ])('the xid of a prepared transaction stands behind all the lists: %s', (_, magic, statisticsBytes) => {
    const list = (entries: number, bytes: number) =>
      Buffer.concat([words(entries), Buffer.alloc(entries * bytes, 0xee)])
    const data = Buffer.concat([
      timeBytes(),
      words(0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x80 | 0x100),
      words(5, 1663),
      list(2, 4),
      list(3, 12),
      list(1, statisticsBytes),
      list(4, 16),
      words(4711),
      Buffer.from('gid\0'),
    ])
    expect(one({ rmgr: XACT, info: 0x80 | 0x30, xid: 0, data }, magic)).toEqual([
      { kind: 'commit', xid: 4711, timeMicros: MOMENT },
    ])
  })

  test.each([
    ['lists longer than the record', Buffer.concat([timeBytes(), words(0x12, 0xffffffff)])],
    ['no lists at all', Buffer.concat([timeBytes(), words(0x12)])],
    ['no time', Buffer.alloc(3)],
  ])('a record with %s does no harm', (_, data) => {
    expect(() => one({ rmgr: XACT, info: 0xb0, data })).not.toThrow()
  })
})

describe('the way through pages and segments', () => {
  test.each([8, 16, 24, 32, 40])('a record begins when %i bytes of the page are left', (left) => {
    const wal = new WalWriter(1)
    wal.fillPageTo(left)
    expect(wal.at).toBe(PAGE - left)
    const expected = [wal.commit(1), wal.commit(2)]
    expect(readAll(wal)).toEqual({ records: expected, validUntil: wal.lsn, carry: undefined })
  })

  test('a record that ends with its page ends at the boundary, and the next one begins behind the header', () => {
    const wal = new WalWriter(1)
    const first = wal.commit(1)
    wal.fillPageTo(0)
    expect(readAll(wal).validUntil).toBe(START + BigInt(PAGE))
    const second = wal.commit(2)
    expect(second.lsn).toBe(START + BigInt(PAGE + 24))
    expect(readAll(wal).records).toEqual([first, second])
  })

  test.each([8, 16, 24, 32])(
    'a commit goes over into the next segment with %i bytes in the first',
    (left) => {
      const wal = new WalWriter(2)
      wal.fillSegmentTo(left)
      expect(wal.at).toBe(SEGMENT - left)
      const expected = [wal.commit(1), wal.commit(2)]

      const first = readRecords(Buffer.from(wal.segment(0)), { segmentStart: START })
      expect(first).toMatchObject({ records: [], validUntil: expected[0]!.lsn })
      expect(first.carry?.unfinished).toMatchObject({ lsn: expected[0]!.lsn, gotBytes: left })
      const next = { segmentStart: START + BigInt(SEGMENT) }
      const second = { records: expected, validUntil: wal.lsn, carry: undefined }
      expect(readRecords(wal.segment(1), { ...next, carry: first.carry })).toEqual(second)
      // A carry is a value: what has been read with it once can be read again.
      expect(readRecords(wal.segment(1), { ...next, carry: first.carry })).toEqual(second)
      expect(readRecords(wal.segment(1), next)).toEqual({ ...second, records: expected.slice(1) })
      const elsewhere = { ...first.carry!, segmentStart: 0n }
      expect(readRecords(wal.segment(1), { ...next, carry: elsewhere }).records).toEqual(expected.slice(1))
    },
  )

  test('a record over several segments is walked over, and its bytes are not kept', () => {
    const wal = new WalWriter(4)
    const before = wal.commit(1)
    wal.add({ data: Buffer.alloc(2.5 * SEGMENT) })
    const after = wal.commit(2)
    expect(readAll(wal).records).toEqual([before, after])
    const { carry } = readRecords(wal.segment(0), { segmentStart: START })
    expect(carry?.unfinished).toMatchObject({ lsn: before.endLsn, parts: undefined })

    const middle = readRecords(wal.segment(1), { segmentStart: START + BigInt(SEGMENT) })
    expect(middle).toMatchObject({ records: [], validUntil: START + BigInt(SEGMENT) })
    expect(middle.carry?.unfinished).toMatchObject({ lsn: undefined })
    const third = readRecords(wal.segment(2), {
      segmentStart: START + BigInt(2 * SEGMENT),
      carry: middle.carry,
    })
    expect(third).toMatchObject({ records: [after] })
  })

  test('a commit over several segments is put together', () => {
    const wal = new WalWriter(3)
    const data = Buffer.concat([timeBytes(), words(0x2, 400_000), Buffer.alloc(1_600_000, 7)])
    wal.add({ rmgr: XACT, info: 0x80, xid: 9, data })
    expect(readAll(wal).records).toMatchObject([{ kind: 'commit', xid: 9 }])
  })

  test('a switch ends its segment', () => {
    const wal = new WalWriter(2)
    const before = wal.commit(1)
    wal.add({ rmgr: 0, info: 0x40 })
    const first = readRecords(wal.segment(0), { segmentStart: START })
    expect(first.validUntil).toBe(START + BigInt(SEGMENT))
    wal.at = SEGMENT
    const after = wal.commit(2)
    expect(readAll(wal)).toEqual({ records: [before, after], validUntil: after.endLsn, carry: undefined })
  })

  test.each([1, 0])('a record that a crash cut off is replaced on the next page: case %#', (inFirstPage) => {
    const wal = new WalWriter(2)
    const before = inFirstPage ? wal.commit(1) : undefined
    const { previous } = wal
    const lost = inFirstPage ? 2 * PAGE : SEGMENT
    wal.add({ rmgr: XACT, info: 0x80, xid: 2, data: Buffer.concat([timeBytes(), Buffer.alloc(lost + 100)]) })
    wal.at = lost
    wal.bytes.fill(0, lost)
    wal.page(OVERWRITES, 0)
    wal.previous = previous
    wal.add({ rmgr: 0, info: 0xd0, data: Buffer.alloc(16) })
    const after = wal.commit(3)
    expect(readAll(wal)).toMatchObject({ records: before ? [before, after] : [after], validUntil: wal.lsn })
  })
})

describe('the end of valid WAL', () => {
  test('zeros', () => {
    const wal = new WalWriter(1)
    const records = [wal.commit(1), wal.commit(2)]
    expect(readAll(wal)).toEqual({ records, validUntil: wal.lsn, carry: undefined })
  })

  test('the old pages of a recycled segment', () => {
    const wal = new WalWriter(1)
    for (let xid = 1; xid < 2000; xid++) wal.commit(xid)
    for (let page = 3 * PAGE; page < SEGMENT; page += PAGE) {
      wal.bytes.writeBigUInt64LE(START + BigInt(page - SEGMENT), page + 8)
    }
    const { records, validUntil } = readAll(wal)
    expect(records.at(-1)!.lsn).toBeLessThan(START + BigInt(3 * PAGE))
    expect(records.at(-1)!.endLsn).toBe(validUntil)
  })

  test('an old record with a correct CRC, in the place of the next one', () => {
    const wal = new WalWriter(1)
    const records = [wal.commit(1)]
    wal.add({ data: Buffer.alloc(10) })
    const validUntil = wal.lsn
    wal.previous = START - BigInt(SEGMENT)
    wal.commit(3)
    expect(readAll(wal)).toEqual({ records, validUntil, carry: undefined })
  })

  test('an old segment, or none, under a new name', () => {
    const wal = new WalWriter(1)
    wal.commit(1)
    const nothing = (segmentStart: Lsn) => ({ records: [], validUntil: segmentStart, carry: undefined })
    const later = START + BigInt(SEGMENT)
    expect(readRecords(wal.segment(0), { segmentStart: later })).toEqual(nothing(later))
    expect(readRecords(Buffer.alloc(SEGMENT), { segmentStart: START })).toEqual(nothing(START))
    expect(readRecords(Buffer.alloc(0), { segmentStart: START })).toEqual(nothing(START))
    expect(readRecords(wal.bytes.subarray(0, 100), { segmentStart: START })).toEqual(nothing(START))
  })

  test('a commit with a wrong CRC', () => {
    const wal = new WalWriter(1)
    const records = [wal.commit(1)]
    const bad = wal.commit(2)
    wal.commit(3)
    wal.bytes[Number(bad.lsn - START) + 30]! ^= 1
    expect(readAll(wal)).toEqual({ records, validUntil: bad.lsn, carry: undefined })
  })

  test.each([100, 20_000])('the last record of %i bytes has its header, but not all of its body', (bytes) => {
    const wal = new WalWriter(1)
    const records = [wal.commit(1)]
    const cut = wal.add({ data: Buffer.alloc(bytes, 1) })
    wal.bytes[wal.at - 16] = 0
    expect(readAll(wal)).toEqual({ records, validUntil: cut.lsn, carry: undefined })
  })

  test('a segment that is cut off', () => {
    const wal = new WalWriter(1)
    const records: WalRecord[] = []
    for (let xid = 1; xid < 1000; xid++) records.push(wal.commit(xid))
    const read = readRecords(wal.bytes.subarray(0, 3 * PAGE + 100), { segmentStart: START })
    expect(read.records).toEqual(records.filter(({ endLsn }) => endLsn <= START + BigInt(3 * PAGE)))
    expect(read.carry).toBeUndefined()
  })

  test('a timeline that goes backwards', () => {
    const wal = new WalWriter(1)
    for (let xid = 1; xid < 1000; xid++) wal.commit(xid)
    wal.bytes.writeUInt32LE(2, PAGE + 4)
    expect(readAll(wal).validUntil).toBeLessThanOrEqual(START + BigInt(2 * PAGE))
  })

  test('whatever is damaged, nothing is made up and nothing is thrown', () => {
    const wal = new WalWriter(2)
    const records = new Set<string>()
    const key = ({ lsn, endLsn, kind }: WalRecord) => `${kind} ${lsn} ${endLsn}`
    for (let xid = 1; wal.at < SEGMENT + 4 * PAGE; xid++) {
      records.add(key(wal.commit(xid)))
      wal.add({ data: Buffer.alloc((xid * 37) % 3000, xid) })
    }
    const good = Buffer.from(wal.bytes)
    let seed = 1
    const random = (below: number) => {
      seed = (seed * 48271) % 0x7fffffff
      return seed % below
    }
    for (let round = 0; round < 300; round++) {
      good.copy(wal.bytes)
      // Every second time where it hurts most: in the first pages of a segment.
      const at = round % 2 ? random(wal.bytes.length) : random(2) * SEGMENT + random(2 * PAGE)
      wal.bytes[at] = random(256)
      expect(readAll(wal).records.filter((record) => !records.has(key(record)))).toEqual([])
    }
  })
})

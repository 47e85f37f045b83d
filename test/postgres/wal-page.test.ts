import { expect, test } from 'vitest'
import { lsn } from '../../src/postgres/lsn.ts'
import { parseWalFile, type WalFile } from '../../src/postgres/wal-file.ts'
import { describeSegmentMismatch, readSegmentHeader } from '../../src/postgres/wal-page.ts'

const MIB = 2 ** 20
const SYSTEM = '7560000000000000001'

/** A segment of 1 MiB, empty behind its header, with single fields overwritten at will. */
function segment(change: (buffer: Buffer) => void = () => {}): Buffer {
  const buffer = Buffer.alloc(MIB)
  buffer.writeUInt16LE(0xd110, 0)
  buffer.writeUInt16LE(0x7, 2)
  buffer.writeUInt32LE(3, 4)
  buffer.writeBigUInt64LE(lsn('5/12300000'), 8)
  buffer.writeUInt32LE(77, 16)
  buffer.writeBigUInt64LE(BigInt(SYSTEM), 24)
  buffer.writeUInt32LE(MIB, 32)
  buffer.writeUInt32LE(8192, 36)
  change(buffer)
  return buffer
}

const file = (name: string) => parseWalFile(name) as Extract<WalFile, { kind: 'segment' | 'partial' }>

test('the header of a segment', () => {
  expect(readSegmentHeader(segment())).toEqual({
    magic: 0xd110,
    timeline: 3,
    pageAddress: lsn('5/12300000'),
    remLength: 77,
    systemIdentifier: SYSTEM,
    segmentBytes: MIB,
    pageBytes: 8192,
  })
})

test.each<[string, (buffer: Buffer) => void]>([
  ['has zeros', (buffer) => buffer.fill(0)],
  ['has another magic', (buffer) => buffer.writeUInt16LE(0xd210, 0)],
  ['has a short header', (buffer) => buffer.writeUInt16LE(0x1, 2)],
  ['has segments of half a MiB', (buffer) => buffer.writeUInt32LE(MIB / 2, 32)],
  ['has segments of 2 GiB', (buffer) => buffer.writeUInt32LE(2 ** 31, 32)],
  ['has segments of no power of two', (buffer) => buffer.writeUInt32LE(3 * MIB, 32)],
  ['has pages of no power of two', (buffer) => buffer.writeUInt32LE(8000, 36)],
  ['has pages of no size', (buffer) => buffer.writeUInt32LE(0, 36)],
])('no header is seen in what %s', (_, change) => {
  expect(readSegmentHeader(segment(change))).toBeUndefined()
})

test('no header is seen in what is too short for one', () => {
  expect(readSegmentHeader(segment().subarray(0, 39))).toBeUndefined()
})

test.each([
  '000000030000000500000123',
  '000000030000000500000123.partial',
  // The first segment of timeline 4, copied from timeline 3.
  '000000040000000500000123',
])('%s fits', (name) => {
  expect(describeSegmentMismatch(file(name), segment(), SYSTEM)).toBeUndefined()
  expect(describeSegmentMismatch(file(name), segment())).toBeUndefined()
})

test.each<[string, Buffer, RegExp]>([
  ['000000030000000500000123', Buffer.alloc(MIB), /does not begin with the header/],
  ['000000030000000500000123', segment().subarray(0, 4096), /has 4096 bytes, .* a segment has 1048576$/],
  ['000000030000000500000123', Buffer.concat([segment(), Buffer.alloc(1)]), /has 1048577 bytes/],
  ['000000030000000500000124', segment(), /other WAL than its name says: it begins at 5\/12300000$/],
  ['000000030000000400000123', segment(), /other WAL/],
  ['000000030000000400001123', segment(), /other WAL/],
  ['000000030000000500000123', segment((buffer) => buffer.writeUInt32LE(0x12302000, 8)), /5\/12302000/],
  ['000000020000000500000123', segment(), /WAL of timeline 3/],
  ['000000020000000500000123.partial', segment(), /^000000020000000500000123\.partial holds/],
])('%s does not fit: case %#', (name, buffer, sentence) => {
  expect(describeSegmentMismatch(file(name), buffer, SYSTEM)).toMatch(sentence)
})

test('the segment of another cluster does not fit', () => {
  expect(describeSegmentMismatch(file('000000030000000500000123'), segment(), '1')).toBe(
    `000000030000000500000123 comes from another cluster: its system identifier is ${SYSTEM}, not 1`,
  )
})

import { describe, expect, test } from 'vitest'
import {
  historyName,
  lastSegmentNumber,
  numberOf,
  parseWalFile,
  segmentName,
  segmentNumber,
  segmentStart,
  timelineName,
} from '../../src/postgres/wal-file.ts'

const MIB = 1024 * 1024

test.each([
  ['000000010000000A000000FF', { kind: 'segment', timeline: 1, log: 10, seg: 255 }],
  ['FFFFFFFFFFFFFFFFFFFFFFFF', { kind: 'segment', timeline: 0xffffffff, log: 0xffffffff, seg: 0xffffffff }],
  ['0000000A0000000100000002.partial', { kind: 'partial', timeline: 10, log: 1, seg: 2 }],
  ['000000010000000A000000FF.00000028.backup', { kind: 'backup', timeline: 1, log: 10, seg: 255 }],
  ['0000000A.history', { kind: 'history', timeline: 10 }],
])('%s is understood', (name, facts) => {
  expect(parseWalFile(name)).toEqual({ name, ...facts })
})

test.each([
  '',
  'archive_status',
  '00000001',
  '00000000000000010000000A',
  '00000000.history',
  '000000010000000a000000ff',
  '000000010000000A000000F',
  '000000010000000A000000FFF',
  '000000010000000A000000FF.part',
  '000000010000000A000000FF.28.backup',
  '000000010000000A000000FF.partial.zst',
  '1.history',
  '../000000010000000A000000FF',
  '000000010000000A000000FF\n',
  'xlogtemp.123',
])('%j is no file of WAL', (name) => {
  expect(parseWalFile(name)).toBeUndefined()
})

describe.each([
  [1, 4096],
  [16, 256],
  [64, 64],
  [1024, 4],
])('with segments of %d MiB', (mebibytes, perLog) => {
  const bytes = mebibytes * MIB
  const name = (number: bigint) => segmentName(1, number, bytes)

  test(`${perLog} segments share the middle part of the name`, () => {
    const last = (perLog - 1).toString(16).toUpperCase().padStart(8, '0')
    expect(name(0n)).toBe('000000010000000000000000')
    expect(name(BigInt(perLog) - 1n)).toBe(`0000000100000000${last}`)
    expect(name(BigInt(perLog))).toBe('000000010000000100000000')
    expect(name(BigInt(perLog) * 0xffffffffn)).toBe('00000001FFFFFFFF00000000')
  })

  test('name and number belong together', () => {
    for (const number of [
      0n,
      1n,
      BigInt(perLog) - 1n,
      BigInt(perLog),
      BigInt(perLog) * 5n + 3n,
      123_456_789n,
    ]) {
      const file = parseWalFile(name(number))
      expect(file?.kind === 'segment' && numberOf(file, bytes)).toBe(number)
      expect(segmentNumber(segmentStart(number, bytes), bytes)).toBe(number)
      expect(segmentNumber(segmentStart(number + 1n, bytes) - 1n, bytes)).toBe(number)
    }
  })

  test('the name holds the high half of the LSN', () => {
    const position = 0x16_b374d848n
    expect(name(segmentNumber(position, bytes)).slice(8, 16)).toBe('00000016')
  })

  test('a position on a border needs the segment before it', () => {
    const border = segmentStart(7n, bytes)
    expect(lastSegmentNumber(border, bytes)).toBe(6n)
    expect(lastSegmentNumber(border + 1n, bytes)).toBe(7n)
    expect(lastSegmentNumber(border - 1n, bytes)).toBe(6n)
    expect(lastSegmentNumber(0n, bytes)).toBe(0n)
  })
})

test('timelines are written with eight digits', () => {
  expect(timelineName(26)).toBe('0000001A')
  expect(historyName(0xffffffff)).toBe('FFFFFFFF.history')
})

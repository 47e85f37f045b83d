import { execFileSync } from 'node:child_process'
import { describe, expect, test } from 'vitest'
import {
  describeTarget,
  formatMoment,
  parseMoment,
  parseTargetLsn,
  parseTargetXid,
  recoveryTargetOf,
  type Target,
} from '../../src/restore/target.ts'

const micros = (iso: string, fraction = 0n) => BigInt(Date.parse(iso)) * 1000n + fraction

describe('a moment', () => {
  test.each([
    ['2026-11-20 17:29:00+00', micros('2026-11-20T17:29:00Z')],
    ['2026-11-20T17:29:00Z', micros('2026-11-20T17:29:00Z')],
    ['2026-11-20 17:29Z', micros('2026-11-20T17:29:00Z')],
    ['2026-11-20 17:29 utc', micros('2026-11-20T17:29:00Z')],
    ['2026-11-20Z', micros('2026-11-20T00:00:00Z')],
    ['2026-11-20 17:29:00+01', micros('2026-11-20T16:29:00Z')],
    ['2026-11-20 17:29:00 +0530', micros('2026-11-20T11:59:00Z')],
    ['2026-11-20 17:29:00-03:30', micros('2026-11-20T20:59:00Z')],
    ['2026-11-20 17:29:00-00:30', micros('2026-11-20T17:59:00Z')],
    ['2026-11-20 17:29:00.5+00', micros('2026-11-20T17:29:00Z', 500_000n)],
    ['2026-11-20 17:29:00.123456+00', micros('2026-11-20T17:29:00Z', 123_456n)],
    ['2026-11-20 17:29:00.000001+00', micros('2026-11-20T17:29:00Z', 1n)],
    ['  2026-11-20 17:29:00+00 ', micros('2026-11-20T17:29:00Z')],
    ['2028-02-29 23:59:59.999999Z', micros('2028-02-29T23:59:59Z', 999_999n)],
    ['1969-12-31 23:59:59.5Z', -500_000n],
  ])('%s is read to the microsecond', (text, expected) => {
    expect(parseMoment(text)).toBe(expected)
  })

  test.each([
    'now',
    '',
    '2026-11-20 17',
    '2026-11-20 24:00Z',
    '2026-11-20 17:60Z',
    '2026-11-20 17:29:60Z',
    '2026-02-29Z',
    '2026-13-01Z',
    '2026-00-10Z',
    '20261120',
    '2026-11-20 17:29:00.1234567Z',
    '2026-11-20 17:29 CET',
    '17:29',
    '2026-11-20 17:29:00+01:00:00',
  ])('%j is refused', (text) => {
    expect(() => parseMoment(text)).toThrow(
      expect.objectContaining({ kind: 'usage', hint: expect.stringContaining('2026') }),
    )
  })

  test.each([
    ['Europe/Berlin', '2026-07-01 14:00', '2026-07-01T12:00:00Z'],
    ['Europe/Berlin', '2026-12-01 14:00', '2026-12-01T13:00:00Z'],
    ['Asia/Kolkata', '2026-07-01 14:00', '2026-07-01T08:30:00Z'],
    ['America/St_Johns', '2026-07-01', '2026-07-01T02:30:00Z'],
  ])('without a zone is the local time of the host, here in %s', (zone, text, iso) => {
    const module = JSON.stringify(new URL('../../src/restore/target.ts', import.meta.url).href)
    const script = `import(${module}).then((m) => console.log(String(m.parseMoment(${JSON.stringify(text)}))))`
    const output = execFileSync(process.execPath, ['-e', script], { env: { TZ: zone }, encoding: 'utf8' })
    expect(BigInt(output.trim())).toBe(micros(iso))
  })

  test.each([
    [micros('2026-11-20T17:29:00Z'), '2026-11-20 17:29:00+00'],
    [micros('2026-11-20T17:29:00Z', 1n), '2026-11-20 17:29:00.000001+00'],
    [micros('2026-11-20T17:29:00Z', 120_000n), '2026-11-20 17:29:00.12+00'],
    [0n, '1970-01-01 00:00:00+00'],
    [-1n, '1969-12-31 23:59:59.999999+00'],
  ])('%d microseconds are written as PostgreSQL reads them', (moment, text) => {
    expect(formatMoment(moment)).toBe(text)
    expect(parseMoment(text)).toBe(moment)
  })
})

test('an LSN and a transaction id are read, or refused with how to write them', () => {
  expect(parseTargetLsn('16/B374D848')).toBe(0x16b374d848n)
  expect(parseTargetXid('18446744073709551615')).toBe(18446744073709551615n)
  for (const text of ['16', '16/', 'x/1', '1/123456789', '']) {
    expect(() => parseTargetLsn(text)).toThrow(expect.objectContaining({ kind: 'usage' }))
  }
  for (const text of ['', '-1', '1.5', '0x10', 'abc']) {
    expect(() => parseTargetXid(text)).toThrow(expect.objectContaining({ kind: 'usage' }))
  }
})

test.each<[Target, unknown, string]>([
  [{ kind: 'end' }, { kind: 'end' }, 'the end of the archived WAL'],
  [{ kind: 'immediate' }, { kind: 'immediate' }, 'the end of the backup'],
  [
    { kind: 'time', micros: 500_000n },
    { kind: 'time', time: '1970-01-01 00:00:00.5+00' },
    '1970-01-01 00:00:00.5+00',
  ],
  [{ kind: 'lsn', lsn: 0x1600000028n }, { kind: 'lsn', lsn: '16/28' }, 'LSN 16/28'],
  [{ kind: 'xid', xid: 750n }, { kind: 'xid', xid: '750' }, 'the end of transaction 750'],
  [
    { kind: 'name', name: 'before release' },
    { kind: 'name', name: 'before release' },
    'restore point "before release"',
  ],
])('%o as a setting and in a sentence', (target, setting, sentence) => {
  expect(recoveryTargetOf(target)).toEqual(setting)
  expect(describeTarget(target)).toBe(sentence)
})

test('a transaction id of 64 bits becomes the 32 bits that the setting takes', () => {
  expect(recoveryTargetOf({ kind: 'xid', xid: (3n << 32n) + 750n })).toEqual({ kind: 'xid', xid: '750' })
})

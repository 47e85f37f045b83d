import { describe, expect, test } from 'vitest'
import {
  parseBackupLabel,
  withIncrementalLines,
  withoutIncrementalLines,
} from '../../src/postgres/backup-label.ts'

const LABEL = `START WAL LOCATION: 16/B3000028 (file 0000000300000016000000B3)
CHECKPOINT LOCATION: 16/B3000060
BACKUP METHOD: streamed
BACKUP FROM: standby
START TIME: 2026-11-21 12:00:00 UTC
LABEL: START WAL LOCATION: 0/0 (file 000000010000000000000000)
START TIMELINE: 3
`

test('says where the backup begins, and from what', () => {
  expect(parseBackupLabel(LABEL)).toEqual({
    start: 0x16_b300_0028n,
    walFile: '0000000300000016000000B3',
    timeline: 3,
    fromStandby: true,
  })
  expect(parseBackupLabel(LABEL.replace('standby', 'primary')).fromStandby).toBe(false)
})

test('is an error where it does not say so', () => {
  expect(() => parseBackupLabel('LABEL: x\n')).toThrow('does not say where')
  expect(() =>
    parseBackupLabel(LABEL.replace('0000000300000016000000B3', '000000000000001600000000')),
  ).toThrow()
})

describe('the two lines of an incremental backup', () => {
  const parent = { start: 0x16_a000_0028n, timeline: 2 }
  const incremental = `${LABEL}INCREMENTAL FROM LSN: 16/A0000028\nINCREMENTAL FROM TLI: 2\n`

  test('are written last, and taken out again', () => {
    expect(withIncrementalLines(LABEL, parent)).toBe(incremental)
    expect(withoutIncrementalLines(incremental)).toBe(LABEL)
    expect(withoutIncrementalLines(LABEL)).toBe(LABEL)
  })

  test('stand once, and on lines of their own', () => {
    const other = withIncrementalLines(LABEL, { start: 1n, timeline: 1 })
    expect(withIncrementalLines(other, parent)).toBe(incremental)
    expect(withIncrementalLines(LABEL.trimEnd(), parent)).toBe(incremental)
  })

  test('are read', () => {
    expect(parseBackupLabel(LABEL).incrementalFrom).toBeUndefined()
    expect(parseBackupLabel(incremental)).toMatchObject({
      start: 0x16_b300_0028n,
      incrementalFrom: { lsn: 0x16_a000_0028n, timeline: 2 },
    })
    // As 19 writes it.
    expect(parseBackupLabel(incremental.replace('16/A0000028', '16/00000028')).incrementalFrom?.lsn).toBe(
      0x16_0000_0028n,
    )
  })

  test('are not those that a user put into the label', () => {
    const label = LABEL.replace('LABEL: START', 'LABEL: INCREMENTAL FROM LSN: 1/1 START')
    expect(withoutIncrementalLines(label)).toBe(label)
    expect(parseBackupLabel(label).incrementalFrom).toBeUndefined()
  })
})

import { expect, test } from 'vitest'
import { parseBackupLabel } from '../../src/postgres/backup-label.ts'

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

import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { formatAge, formatBytes, formatDuration, formatRate } from '../../src/cli/units.ts'

test.each([
  [0, '0 B'],
  [512, '512 B'],
  [1023, '1023 B'],
  [1024, '1.0 KiB'],
  [1024 * 99.96, '100 KiB'],
  [412 * 1024 ** 2, '412 MiB'],
  [1024 ** 3 - 1, '1.0 GiB'],
  [1.2 * 1024 ** 3, '1.2 GiB'],
  [5000 * 1024 ** 6, '5000 EiB'],
])('%d bytes read %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text)
  expect(formatRate(bytes)).toBe(`${text}/s`)
})

test.each([
  [0, '0 ms'],
  [850, '850 ms'],
  [999.6, '1.0 s'],
  [12_340, '12.3 s'],
  [59_960, '1 min 00 s'],
  [245_000, '4 min 05 s'],
  [3_599_700, '1 h 00 min'],
  [7_800_000, '2 h 10 min'],
  [108_000_000, '30 h 00 min'],
])('%d ms last %s', (ms, text) => {
  expect(formatDuration(ms)).toBe(text)
})

test.each([
  [-5000, '0 s'],
  [59_999, '59 s'],
  [60_000, '1 min'],
  [26.9 * 3_600_000, '26 h'],
  [48 * 3_600_000, '2 days'],
])('%d ms ago is %s old', (ms, text) => {
  expect(formatAge(ms)).toBe(text)
})

test.each([
  ['Europe/Berlin', '2026-07-01 14:05:09+02'],
  ['Asia/Kolkata', '2026-07-01 17:35:09+05:30'],
  ['America/St_Johns', '2026-07-01 09:35:09-02:30'],
  ['UTC', '2026-07-01 12:05:09+00'],
])('a moment in %s', (zone, text) => {
  const module = JSON.stringify(new URL('../../src/cli/units.ts', import.meta.url).href)
  const script = `import(${module}).then((m) => console.log(m.formatTime(new Date('2026-07-01T12:05:09Z'))))`
  const output = execFileSync(process.execPath, ['-e', script], { env: { TZ: zone }, encoding: 'utf8' })
  expect(output.trim()).toBe(text)
})

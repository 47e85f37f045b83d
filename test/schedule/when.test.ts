import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { cronOf, onOtherDays, parseWhen, systemdOf } from '../../src/schedule/when.ts'

/** The time, its fields for cron 7 minutes later, and its expression for systemd. */
const TIMES: [string, string, string][] = [
  ['01:30', '37 1 * * *', '*-*-* 01:30:00'],
  ['0:05', '12 0 * * *', '*-*-* 00:05:00'],
  ['Sun 00:30', '37 0 * * 0', 'Sun *-*-* 00:30:00'],
  ['Mon-Sat 00:30', '37 0 * * 1-6', 'Mon..Sat *-*-* 00:30:00'],
  ['Sat-Mon 12:00', '7 12 * * 0,1,6', 'Mon,Sat,Sun *-*-* 12:00:00'],
  ['Mon,Wed-Fri 12:00', '7 12 * * 1,3-5', 'Mon,Wed..Fri *-*-* 12:00:00'],
  ['Mon-Sun 12:00', '7 12 * * *', '*-*-* 12:00:00'],
  ['day 1,15 02:00', '7 2 1,15 * *', '*-*-01,15 02:00:00'],
  ['day 2-31 02:00', '7 2 2-31 * *', '*-*-02..31 02:00:00'],
  ['23:57', '59 23 * * *', '*-*-* 23:57:00'],
  ['every 10min', '7-59/10 * * * *', '*:0/10'],
  ['every 5min', '2-59/5 * * * *', '*:0/5'],
  ['every 1h', '7 * * * *', '0/1:00'],
  ['every 6h', '7 0-23/6 * * *', '0/6:00'],
]

test.each(TIMES)('%s', (text, cron, systemd) => {
  const when = parseWhen(text)!
  expect(cronOf(when, 7)).toBe(cron)
  expect(systemdOf(when, undefined)).toBe(systemd)
  expect(systemdOf(when, 'Europe/Berlin')).toBe(`${systemd} Europe/Berlin`)
})

test.each([
  '',
  '24:00',
  '1:5',
  '12:60',
  'Sunday 01:00',
  'Sun',
  'Sun, 01:00',
  'Sun-Mon-Tue 01:00',
  'day 0 01:00',
  'day 32 01:00',
  'day 1.5 01:00',
  'day 01:00',
  'Sun Mon 01:00',
  'every 7min',
  'every 0min',
  'every 24h',
  'every 10',
  'every',
])('"%s" is no time', (text) => {
  expect(parseWhen(text)).toBeUndefined()
})

test('the other days are all that are left, at the same time', () => {
  const others = (text: string) => onOtherDays(parseWhen(text)!)
  expect(others('Sun 00:30')).toEqual(parseWhen('Mon-Sat 00:30'))
  expect(others('day 1 00:30')).toEqual(parseWhen('day 2-31 00:30'))
  expect(others('00:30')).toBeUndefined()
  expect(others('every 6h')).toBeUndefined()
})

test('systemd reads what is written for it, and means the same', (context) => {
  const expressions = TIMES.map(([, , expression]) => `${expression} Europe/Berlin`)
  const { status, stdout, error } = spawnSync(
    'systemd-analyze',
    ['calendar', '--iterations=2', '--base-time=2026-11-20 00:00:00 UTC', ...expressions],
    { encoding: 'utf8', env: { ...process.env, LC_ALL: 'C', TZ: 'UTC' } },
  )
  if (error) return context.skip('systemd-analyze is not installed')
  expect(status, stdout).toBe(0)
  const next = [...stdout.matchAll(/Next elapse: \w+ (\S+ \S+)/g)].map(([, time]) => time)
  expect(next).toHaveLength(TIMES.length)
  // Berlin is an hour ahead of UTC in November; the 22nd is a Sunday.
  expect(next[TIMES.findIndex(([text]) => text === 'Sun 00:30')]).toBe('2026-11-21 23:30:00')
  expect(next[TIMES.findIndex(([text]) => text === 'day 1,15 02:00')]).toBe('2026-12-01 01:00:00')
})

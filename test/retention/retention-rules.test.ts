import { describe, expect, test } from 'vitest'
import { rulesOf } from '../../src/commands/retention-rules.ts'

const DAY = 24 * 60 * 60_000
const configured = { retention: { full: 2, window: 7 * DAY, daily: 7 }, timeZone: 'Europe/Berlin' }

describe('the rules of a run', () => {
  test('are those of the configuration, each replaced by its option', () => {
    expect(rulesOf('main', configured, {})).toEqual({ ...configured.retention, timeZone: 'Europe/Berlin' })
    const options = { full: 5, diff: 3, incr: 4, window: '36h', wal: '2d', weekly: 6, minimum: 2, logical: 8 }
    expect(rulesOf('main', configured, options)).toEqual({
      ...options,
      daily: 7,
      window: 1.5 * DAY,
      wal: 2 * DAY,
      timeZone: 'Europe/Berlin',
    })
  })

  test('may come from options alone', () => {
    expect(rulesOf('main', { retention: {} }, { yearly: 3 })).toMatchObject({ yearly: 3 })
    expect(rulesOf('main', { retention: {} }, { wal: '3d' })).toMatchObject({ wal: 3 * DAY })
  })

  test.each([
    ['WAL for a shorter time than the window', { wal: '3d' }, '"wal" must not be shorter than "window"'],
    ['what is no time', { window: 'a week' }, '--window "a week" is not a time'],
    ['no time at all', { wal: '0d' }, '--wal "0d" is not a time'],
  ])('are refused before anything is read: %s', (_what, options, message) => {
    expect(() => rulesOf('main', configured, options)).toThrow(
      expect.objectContaining({ kind: 'usage', message: expect.stringContaining(message) }),
    )
  })

  test('are refused where a number counts within nothing', () => {
    const rules = { retention: { window: DAY } }
    expect(() => rulesOf('main', rules, { diff: 2 })).toThrow('"diff" counts within what "full" keeps')
    expect(rulesOf('main', rules, { diff: 2, full: 1 })).toMatchObject({ diff: 2, full: 1 })
  })

  test('must be some by which something may go', () => {
    for (const minimum of [undefined, 3])
      expect(() => rulesOf('main', { retention: {} }, { minimum })).toThrow(
        expect.objectContaining({ kind: 'config', hint: expect.stringContaining('--window 7d') }),
      )
  })
})

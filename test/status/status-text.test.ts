import { describe, expect, test } from 'vitest'
import { statusText } from '../../src/commands/status-text.ts'
import type { RepositoryFacts, Window } from '../../src/status/facts.ts'
import { THRESHOLDS } from '../../src/status/thresholds.ts'
import { repositoryFacts, serverFacts } from './facts.ts'

const BACKUP = '20261120T120000Z-full'

function windowOf(from: string, to: string, facts: Partial<Window> = {}): Window {
  return {
    timeline: 1,
    from: { backup: BACKUP, time: from, lsn: '0/A001000' },
    to: { time: to, lsn: '0/B000028', isExact: true },
    backups: [BACKUP],
    cutBy: null,
    ...facts,
  }
}

const VIEW = { color: false, width: 80, now: new Date('2026-11-20T13:00:00Z') }
function linesOf(facts: Partial<RepositoryFacts>): string[] {
  const repositories = [{ facts: repositoryFacts(facts), findings: [] }]
  const status = { server: serverFacts(), findings: [], repositories }
  return statusText([{ cluster: 'main', status, limits: THRESHOLDS }], VIEW).split('\n')
}
const rowsOf = (facts: Partial<RepositoryFacts>) => {
  const lines = linesOf(facts)
  return lines.slice(lines.findIndex((line) => line.includes('Recoverable from')))
}
const cells = (facts: Window) =>
  rowsOf({ windows: [facts] })[1]!
    .trim()
    .split(/ {2,}/)

describe('the ends of a window, in whole seconds, can be asked for', () => {
  test.each([
    ['a begin within a second is rounded up', '12:00:30.000001', '12:59:00.5', '12:00:31', '12:59:00'],
    ['up to the next day', '23:59:59.9', '23:59:59.95', '00:00:00', '00:00:00'],
    ['a whole one stays', '12:00:30.000000', '12:59:00.5', '12:00:30', '12:59:00'],
    ['one that was told without a fraction too', '12:00:30', '12:59:00', '12:00:30', '12:59:00'],
    ['a window that is shorter than a second has one', '12:00:30.2', '12:00:30.9', '12:00:31', '12:00:31'],
  ])('%s', (_what, from, to, shownFrom, shownTo) => {
    const [, begin, end] = cells(windowOf(`2026-11-20T${from}Z`, `2026-11-20T${to}Z`))
    expect(begin).toMatch(new RegExp(`T${shownFrom}Z$`))
    expect(end).toMatch(new RegExp(`T${shownTo}Z$`))
  })
})

test('80 columns hold the table, and no moment of it is cut', () => {
  const from = '2026-11-20T10:00:30.5Z'
  const windows = [
    windowOf(from, '2026-11-20T12:00:00.5Z', { cutBy: '00000001000000000000000A' }),
    windowOf(from, '2026-11-20T12:00:00.5Z', {
      to: { time: '2026-11-20T12:00:00.5Z', lsn: '0/1', isExact: false },
    }),
  ]
  const lines = rowsOf({ windows: windows.slice(0, 1) }).slice(0, 2)
  expect(lines[0]).toMatch(/Recoverable from .*Ago .*Ends with$/)
  expect(lines[1]).toMatch(/1 {2}2026-11-20T10:00:31Z {2}2026-11-20T12:00:00Z .*59 min .*1 {2}gap$/)
  const inexact = rowsOf({ windows }).slice(0, 3)
  expect(inexact[2]).toMatch(/1 {2}2026-11-20T10:00:31Z {2}>= 2026-11-20T12:00:00Z .*archive$/)
  for (const line of [...lines, ...inexact]) expect(line.length).toBeLessThanOrEqual(80)
})

test('what is received is told with the size of its object, which is compressed', () => {
  const receiving = {
    segment: '00000001000000000000000B',
    storedBytes: 2048,
    storedAt: '2026-11-20T12:59:58.123Z',
  }
  const windows = [windowOf('2026-11-20T10:00:30Z', '2026-11-20T12:00:00Z')]
  expect(linesOf({ windows, receiving })).toContain(
    'Segment 00000001000000000000000B is being received: stored as 2.0 KiB at 2026-11-20T12:59:58Z.',
  )
})

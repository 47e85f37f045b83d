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
    lsn: null,
  }
  const windows = [windowOf('2026-11-20T10:00:30Z', '2026-11-20T12:00:00Z')]
  expect(linesOf({ windows, receiving })).toContain(
    'Segment 00000001000000000000000B is being received: stored as 2.0 KiB at 2026-11-20T12:59:58Z.',
  )
})

test('what is wrong stands first, the worst of it at the top, and what is well comes last', () => {
  const warn = { severity: 'warn', subject: 'WAL', text: 'a gap', hint: 'pgrecall backup' } as const
  const fail = { severity: 'fail', subject: 'WAL', text: 'a hole' } as const
  const ok = { severity: 'ok', subject: 'WAL', text: 'no backup needs it' } as const
  const well = { severity: 'ok', subject: 'archiving', text: 'archiving keeps up' } as const
  const status = {
    server: serverFacts(),
    findings: [well],
    repositories: [{ facts: repositoryFacts({ freeBytes: null }), findings: [ok, warn, fail] }],
  }
  const cluster = { cluster: 'main', status, limits: THRESHOLDS }
  expect(statusText([cluster], VIEW).split('\n')).toEqual([
    'fail  a hole',
    'warn  a gap',
    '      pgrecall backup',
    '',
    'Cluster "main" in repository "local" (/var/lib/pgrecall)',
    '',
    'Last backup    1 h ago, 20261120T120000Z-full',
    'Verified       never; no restore was proven',
    'ok    no backup needs it',
    '',
    'The server',
    '',
    'ok    archiving keeps up',
  ])
  const two = statusText([cluster, { ...cluster, cluster: 'other' }], VIEW).split('\n')
  expect(two.slice(0, 4)).toEqual([
    'fail  main in local: a hole',
    'fail  other in local: a hole',
    'warn  main in local: a gap',
    '      pgrecall --cluster main backup',
  ])
})

test('what is known of the days to come is told, with where it comes from', () => {
  const lines = linesOf({
    rpo: { seconds: 75, since: '2026-11-20T12:58:45.5Z', unstoredBytes: 2048, basis: 'archive' },
    restore: {
      backup: BACKUP,
      seconds: 90,
      copy: { bytes: 4096, bytesPerSecond: 1024, basis: 'backups', samples: 2 },
      replay: { bytes: 1024, assumedBytesPerSecond: 1024 },
    },
    fullInSeconds: 4 * 365 * 86_400,
    verified: {
      updatedAt: '2026-11-19T12:00:00Z',
      oldestAt: '2026-11-19T12:00:00Z',
      ageSeconds: 90_000,
      bytes: 2048,
      neverBytes: 1024,
      damaged: [],
      lastRestore: null,
      lastProvenRestore: null,
    },
  }).join(' ')
  const said = lines.replace(/\s+/g, ' ')
  for (const part of [
    'Would lose at most 1 min of commits, if this host died now: from 2026-11-20T12:58:45Z on, unless the server has written nothing since; 2.0 KiB of WAL are not stored',
    'Restore takes about 1 min 30 s: 4.0 KiB at 1.0 KiB/s, as 2 backups did, since no restore was measured; and 1.0 KiB of WAL at 1.0 KiB/s, which is assumed',
    'Free 4.9 KiB; enough for years at this rate',
    'Verified all but 1.0 KiB of 2.0 KiB within 25 h, but nothing that was stored after 2026-11-19T12:00:00Z; no restore was proven',
  ])
    expect(said).toContain(part)
})

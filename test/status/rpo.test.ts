import { describe, expect, test } from 'vitest'
import { segmentName } from '../../src/postgres/wal-file.ts'
import type { RepositoryFacts, ServerFacts } from '../../src/status/facts.ts'
import { mostLost, rpoOf } from '../../src/status/rpo.ts'
import { SEGMENT } from '../catalog/stored.ts'
import { repositoryFacts, serverFacts, waitingFor } from './facts.ts'

const NOW = new Date('2026-11-20T13:00:00Z')
const LAST = segmentName(1, 9n, SEGMENT)
const COMMIT = '2026-11-20T12:00:00.500000Z'

function held(facts: Partial<RepositoryFacts> = {}, cutBy: string | null = null): RepositoryFacts {
  const window = {
    timeline: 1,
    from: { backup: 'a', time: '2026-11-20T10:00:00Z', lsn: '0/1' },
    to: { time: COMMIT, lsn: '0/9000028', isExact: true },
    backups: ['a'],
    cutBy,
  }
  const archived = {
    lastSegment: LAST,
    storedAt: '2026-11-20T12:30:05Z',
    ageSeconds: 1795,
    behindSegments: 0,
  }
  return repositoryFacts({ windows: [window], archived, ...facts })
}
const written = (writtenAt: string, completed = '2026-11-20T12:30:00.000Z', file = LAST) => ({
  writtenAt,
  completed: { file, time: completed },
})
const ask = (server: Partial<ServerFacts>, facts?: RepositoryFacts) =>
  rpoOf(facts ?? held(), serverFacts(server), SEGMENT, NOW)

describe('what would be lost with the host', () => {
  test('is not told as no time at all where something is', () => {
    expect(mostLost({ seconds: 0 })).toBe('at most 1 s of commits')
    expect(mostLost({ seconds: 90 })).toBe('at most 1 min of commits')
  })

  test('nothing, where the server has written nothing behind the last stored segment', () => {
    const idle = ask({ lsn: '0/A000000', walClock: written('2026-11-20T12:30:00.000Z') })
    expect(idle).toEqual({ seconds: 0, since: null, unstoredBytes: 0, basis: 'server' })
  })

  test('what was written since the last stored segment was full: of an idle server no more with each hour', () => {
    const lsn = '0/A000100'
    expect(ask({ lsn, walClock: written('2026-11-20T12:30:40.000Z') })).toEqual({
      seconds: 40,
      since: '2026-11-20T12:30:00.000Z',
      unstoredBytes: 256,
      basis: 'server',
    })
  })

  test('from the last stored commit on, where the status of that segment is gone, or is of a later one', () => {
    const walClock = written('2026-11-20T12:30:40.500Z')
    expect(ask({ walClock: { ...walClock, completed: null } })).toMatchObject({
      seconds: 1840,
      since: COMMIT,
    })
    const later = segmentName(1, 12n, SEGMENT)
    expect(
      ask({ walClock: { ...walClock, completed: { file: later, time: '2026-11-20T12:30:39Z' } } }),
    ).toMatchObject({
      seconds: 1840,
    })
  })

  test('no more than archive_timeout, as long as every whole segment is stored', () => {
    const busy = { walClock: written('2026-11-20T13:00:00.000Z'), archiveTimeoutSeconds: 60 }
    expect(ask(busy)).toMatchObject({ seconds: 60, since: '2026-11-20T12:59:00.000Z' })
    expect(ask({ ...busy, waiting: waitingFor(10) })).toMatchObject({ seconds: 1800 })
    expect(ask({ ...busy, archiveMode: 'off' })).toMatchObject({ seconds: 1800 })
    const behind = held({
      archived: { lastSegment: LAST, storedAt: COMMIT, ageSeconds: 9, behindSegments: 1 },
    })
    expect(ask(busy, behind)).toMatchObject({ seconds: 1800 })
  })

  test('of a server that cannot be asked, or a standby, up to now, and it says so', () => {
    expect(ask({ lsn: null, walClock: null })).toEqual({
      seconds: 3600,
      since: COMMIT,
      unstoredBytes: null,
      basis: 'archive',
    })
    expect(ask({ inRecovery: true, walClock: null })).toMatchObject({ unstoredBytes: null, basis: 'archive' })
  })

  test('all behind a gap, however much is stored there', () => {
    const gone = held({}, segmentName(1, 8n, SEGMENT))
    expect(ask({ lsn: '0/A000000', walClock: written('2026-11-20T13:00:00.000Z') }, gone)).toMatchObject({
      seconds: 3600,
      since: COMMIT,
    })
  })

  test('of what is received, what was written behind it, whatever the clock of the storage says', () => {
    const receiving = {
      segment: segmentName(1, 10n, SEGMENT),
      storedBytes: 7,
      storedAt: '2026-11-20T12:50:00Z',
    }
    const to = (lsn: string | null) => held({ receiving: { ...receiving, lsn } })
    const server = { lsn: '0/A000100', walClock: written('2026-11-20T12:49:59.500Z') }
    expect(ask(server, to('0/A000100'))).toMatchObject({ seconds: 0, since: null, unstoredBytes: 0 })
    // Stored after the server wrote last, and without what it wrote while the part was on its way.
    expect(ask(server, to('0/A0000C8'))).toMatchObject({ seconds: 2999, since: COMMIT, unstoredBytes: 56 })
    expect(ask(server, to(null))).toMatchObject({ seconds: 2999, unstoredBytes: null })
    expect(ask({ ...server, lsn: null }, to('0/A000100'))).toMatchObject({ seconds: 2999 })
  })

  test('everything, where no backup leads to where the server is', () => {
    expect(ask({}, held({ windows: [] }))).toBeUndefined()
    expect(ask({}, held({ currentTimeline: 2 }))).toBeUndefined()
  })
})

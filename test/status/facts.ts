import type { RepositoryFacts, ServerFacts } from '../../src/status/facts.ts'

/** A repository in which all is well. */
export function repositoryFacts(facts: Partial<RepositoryFacts> = {}): RepositoryFacts {
  return {
    repository: 'local',
    location: '/var/lib/pgrecall',
    error: null,
    currentTimeline: 1,
    windows: [],
    unusable: [],
    gaps: [],
    lostHistories: [],
    droppedAtEnd: [],
    damagedRecords: [],
    damagedPages: [],
    newestBackup: {
      id: '20261120T120000Z-full',
      time: '2026-11-20T12:00:30Z',
      ageSeconds: 3600,
      storedBytes: 1000,
    },
    newestFull: null,
    newestLogical: null,
    archived: {
      lastSegment: '000000010000000000000009',
      storedAt: '2026-11-20T12:59:00Z',
      ageSeconds: 60,
      behindSegments: 0,
    },
    receiving: null,
    freeBytes: 5000,
    rpo: null,
    restore: null,
    stored: null,
    growth: null,
    fullInSeconds: null,
    verified: null,
    missing: [],
    wal: [],
    ...facts,
  }
}

/** A server that archives in time. */
export function serverFacts(facts: Partial<ServerFacts> = {}): ServerFacts {
  return {
    reachable: true,
    error: null,
    systemIdentifier: '7',
    inRecovery: false,
    timeline: 1,
    lsn: '0/A000100',
    archiveMode: 'on',
    archiveTimeoutSeconds: null,
    walClock: null,
    archiver: {
      lastArchived: { file: '000000010000000000000009', time: '2026-11-20T12:59:00.000Z' },
      lastFailed: null,
    },
    waiting: { segments: 0, oldest: null },
    slot: null,
    walDisk: { freeBytes: 1000 },
    walBytesPerSecond: null,
    fullInSeconds: null,
    ...facts,
  }
}

export const waitingFor = (ageSeconds: number, segments = 3): ServerFacts['waiting'] => ({
  segments,
  oldest: { file: '00000001000000000000000A', since: '2026-11-20T12:00:00Z', ageSeconds },
})

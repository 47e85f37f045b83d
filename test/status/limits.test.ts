import { describe, expect, test } from 'vitest'
import { parseConfig } from '../../src/config/load.ts'
import type { RepositoryFacts, Verified } from '../../src/status/facts.ts'
import { judgeRepository, judgeServer } from '../../src/status/judge.ts'
import { THRESHOLDS, thresholdsWith } from '../../src/status/thresholds.ts'
import { repositoryFacts, serverFacts, waitingFor } from './facts.ts'

const DAY = 86_400
const BACKUP = {
  id: '20261120T120000Z-full',
  time: '2026-11-20T12:00:30Z',
  ageSeconds: 3600,
  storedBytes: 1000,
}

/** What is not well, by subject and severity. */
function told(facts: Partial<RepositoryFacts>, limits: Parameters<typeof thresholdsWith>[0] = {}): string[] {
  return judgeRepository(repositoryFacts(facts), serverFacts(), thresholdsWith(limits))
    .filter(({ severity }) => severity !== 'ok')
    .map(({ severity, subject, text }) => `${severity} ${subject}: ${text}`)
}
const old = (ageSeconds: number) => ({ ...BACKUP, ageSeconds })

function verified(facts: Partial<Verified>): Verified {
  return {
    updatedAt: '2026-11-20T12:30:00Z',
    oldestAt: '2026-11-19T13:00:00Z',
    ageSeconds: DAY,
    bytes: 4096,
    neverBytes: 0,
    damaged: [],
    lastRestore: null,
    lastProvenRestore: null,
    ...facts,
  }
}

test('what holds without a configuration says nothing of what is only known since there are thresholds', () => {
  const rpo = { seconds: 99_999, since: '2026-11-19T00:00:00Z', unstoredBytes: 1, basis: 'server' } as const
  expect(told({ rpo, newestFull: old(400 * DAY), newestLogical: old(400 * DAY), verified: null })).toEqual([])
  expect(told({ newestBackup: old(8 * DAY + 1) })).toHaveLength(1)
})

describe('a threshold that is set', () => {
  test('replaces both sides, and without any is silent', () => {
    expect(told({ newestBackup: old(2 * DAY) }, { backupAge: { warn: DAY } })[0]).toMatch(/^warn backups: /)
    expect(told({ newestBackup: old(2 * DAY) }, { backupAge: { fail: DAY } })[0]).toMatch(/^fail backups: /)
    expect(told({ newestBackup: old(99 * DAY) }, { backupAge: {} })).toEqual([])
    const late = serverFacts({ waiting: waitingFor(1000) })
    expect(judgeServer(late, '7', 0, THRESHOLDS)[0]!.severity).toBe('fail')
    expect(judgeServer(late, '7', 0, thresholdsWith({ archiveLate: { warn: 500 } }))[0]!.severity).toBe(
      'warn',
    )
  })

  test('of full and of logical backups is about these', () => {
    const ages = { newestFull: old(3 * DAY), newestLogical: old(5 * DAY) }
    const limits = { fullBackupAge: { warn: 2 * DAY, fail: 9 * DAY }, logicalBackupAge: { fail: 4 * DAY } }
    expect(told(ages, limits).map((text) => text.split(':')[0])).toEqual(['fail backups', 'warn backups'])
  })

  test('of the loss says how much, and when the server was not asked', () => {
    const rpo = {
      seconds: 7200,
      since: '2026-11-20T11:00:00Z',
      unstoredBytes: null,
      basis: 'archive',
    } as const
    const limits = { rpo: { warn: 60, fail: 7199 } }
    expect(told({ rpo }, limits)).toEqual([
      'fail RPO: if this host died now, the last 2 h of commits would be lost; the server did not tell whether it has written since',
    ])
    expect(told({ rpo: { ...rpo, seconds: 7199 } }, limits)[0]).toMatch(/^warn RPO: /)
    expect(told({ rpo: { ...rpo, seconds: 60 } }, limits)).toEqual([])
  })

  test.each([
    ['nothing is remembered', null, 'nothing was verified'],
    ['a part was never read', verified({ neverBytes: 1024 }), '1.0 KiB of 4.0 KiB were never verified'],
    [
      'it is long ago',
      verified({ ageSeconds: 9 * DAY }),
      'there is an object that was verified 9 days ago, and not since',
    ],
  ])('of verification fails when %s', (_what, facts, text) => {
    const limits = { verificationAge: { fail: 8 * DAY } }
    expect(told({ verified: facts }, limits)).toEqual([`fail verification: ${text}`])
    expect(told({ verified: facts, newestBackup: null }, limits)[0]).toContain('there is no backup')
    expect(told({ verified: facts, newestBackup: null }, limits)).toHaveLength(1)
    expect(told({ verified: verified({}) }, limits)).toEqual([])
  })

  test('of proven restores wants one, and not too long ago', () => {
    const limits = { provenRestoreAge: { warn: 30 * DAY } }
    const proven = { backup: BACKUP.id, finishedAt: '', outcome: 'proven', ageSeconds: 31 * DAY } as const
    expect(told({ verified: null }, limits)).toEqual(['warn verification: no restore was ever proven'])
    expect(told({ verified: verified({ lastProvenRestore: proven }) }, limits)[0]).toContain('is 31 days ago')
    expect(
      told({ verified: verified({ lastProvenRestore: { ...proven, ageSeconds: DAY } }) }, limits),
    ).toEqual([])
  })

  test('of room counts bytes, and the time until nothing is free', () => {
    expect(told({ fullInSeconds: 71 * 3600 })[0]).toMatch(
      /^warn space: .*is full in 2 days, unless something/,
    )
    expect(told({ fullInSeconds: 23 * 3600 })[0]).toMatch(/^fail space: .*full in 23 h/)
    expect(told({ fullInSeconds: 73 * 3600 })).toEqual([])
    const thinned = (fullInSeconds: number, set = {}) =>
      judgeRepository(repositoryFacts({ fullInSeconds }), serverFacts(), thresholdsWith(set, true)).at(-1)!
        .severity
    expect([thinned(1), thinned(1, { repositoryFull: { fail: 60 } })]).toEqual(['warn', 'fail'])
    expect(told({ freeBytes: 5000 }, { freeBytes: { fail: 5001 } })[0]).toMatch(
      /^fail space: 4.9 KiB are free/,
    )
  })
})

test('what was found damaged, and a restore that failed, need no threshold', () => {
  const damaged = [
    { key: 'main/backups/a/base.0001.tar.zst', reason: 'its bytes are not those that were stored' },
    { key: 'b', reason: 'it is missing' },
  ]
  const lastRestore = { backup: BACKUP.id, finishedAt: '', outcome: 'failed' } as const
  expect(told({ verified: verified({ damaged, lastRestore }) })).toEqual([
    'fail verification: main/backups/a/base.0001.tar.zst is damaged, and 1 more object with it: its bytes are not those that were stored',
    `fail verification: the last restore that was tried, of ${BACKUP.id}, failed`,
  ])
})

describe('the configuration', () => {
  const of = (status: string) =>
    parseConfig(
      `repositories: { local: { path: /r } }\nclusters: { main: { repositories: [local], status: ${status} } }`,
      'pgrecall.yaml',
    ).clusters.main!.status

  test('has spans and sizes with PostgreSQL’s units', () => {
    expect(of('{ rpo: { warn: 15min, fail: 2h }, freeBytes: { warn: 1GB }, backupAge: {} }')).toEqual({
      rpo: { warn: 900, fail: 7200 },
      freeBytes: { warn: 1024 ** 3 },
      backupAge: {},
    })
  })

  test.each([
    ['{ rpo: { warn: 2h, fail: 1h } }', 'must not fail before it warns'],
    ['{ walDiskFull: { warn: 1h, fail: 2h } }', 'must not warn of less than what it fails of'],
    ['{ rpo: { warn: 10 } }', 'must be a time such as "8d", "36h" or "15min"'],
    ['{ freeBytes: { warn: much } }', 'must be a size such as "100GB"'],
  ])('refuses %s', (status, text) => {
    expect(() => of(status)).toThrow(text)
  })
})

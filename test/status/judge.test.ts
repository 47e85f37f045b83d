import { describe, expect, test } from 'vitest'
import type { Finding } from '../../src/status/facts.ts'
import { judgeRepository, judgeServer, secondsUntilFull } from '../../src/status/judge.ts'
import { repositoryFacts, serverFacts, waitingFor } from './facts.ts'

const worst = (findings: Finding[]) =>
  (['fail', 'warn', 'ok'] as const).find((severity) =>
    findings.some((finding) => finding.severity === severity),
  )
const told = (findings: Finding[], severity: Finding['severity']) =>
  findings.filter((finding) => finding.severity === severity).map(({ text }) => text)
const FAILED = { file: '00000001000000000000000A', time: '2026-11-20T13:00:00.000Z' }
const ARCHIVED = { file: '000000010000000000000009', time: '2026-11-20T12:59:00.000Z' }

describe('a server', () => {
  test('that archives in time is well', () => {
    expect(judgeServer(serverFacts(), '7')).toEqual([
      { severity: 'ok', subject: 'archiving', text: 'archiving keeps up; no segment waits' },
      {
        severity: 'ok',
        subject: 'pg_wal',
        text: '1000 B are free on the disk of pg_wal; it does not fill at this rate',
      },
    ])
  })

  test('that is down is told, and fails nothing', () => {
    const down = serverFacts({
      reachable: false,
      error: 'no such socket',
      inRecovery: null,
      archiver: null,
      archiveMode: null,
    })
    expect(told(judgeServer(down, '7'), 'warn')).toEqual(['the server cannot be asked: no such socket'])
    expect(worst(judgeServer({ ...down, waiting: waitingFor(901) }, '7'))).toBe('fail')
    expect(worst(judgeServer({ ...down, waiting: null, walDisk: null }, '7'))).toBe('warn')
  })

  test('of another cluster is a failure', () => {
    expect(told(judgeServer(serverFacts(), '8'), 'fail')[0]).toContain('is the PostgreSQL cluster 7')
    expect(worst(judgeServer(serverFacts(), undefined))).toBe('ok')
  })

  test.each([
    [300, 'ok'],
    [301, 'warn'],
    [900, 'warn'],
    [901, 'fail'],
  ] as const)('whose oldest waiting segment is %d s old: %s', (age, severity) => {
    expect(worst(judgeServer(serverFacts({ waiting: waitingFor(age) }), '7'))).toBe(severity)
  })

  test('whose archiver failed last is a failure; one that has mended is none', () => {
    const failing = serverFacts({
      archiver: { lastArchived: ARCHIVED, lastFailed: FAILED },
      waiting: waitingFor(20),
    })
    expect(told(judgeServer(failing, '7'), 'fail')).toEqual([
      `archiving fails, last at ${FAILED.time} with ${FAILED.file}; 3 segments wait, the oldest for 20 s`,
    ])
    expect(
      worst(judgeServer(serverFacts({ archiver: { lastArchived: null, lastFailed: FAILED } }), '7')),
    ).toBe('fail')
    const mended = { lastArchived: { ...ARCHIVED, time: '2026-11-20T13:00:01.000Z' }, lastFailed: FAILED }
    expect(worst(judgeServer(serverFacts({ archiver: mended }), '7'))).toBe('ok')
  })

  test('that archives nothing is warned of; a standby archives nothing of itself', () => {
    expect(worst(judgeServer(serverFacts({ archiveMode: 'off' }), '7'))).toBe('warn')
    expect(worst(judgeServer(serverFacts({ inRecovery: true, waiting: waitingFor(9999) }), '7'))).toBe('ok')
  })
})

describe('wal-receive', () => {
  const slot = { name: 'pgrecall', active: false }
  const judge = (active: boolean, storedAgo?: number) =>
    judgeServer(serverFacts({ archiveMode: 'off', slot: { ...slot, active } }), '7', storedAgo)

  test('that runs is well, whether it has stored anything or not; the archiver is not missed', () => {
    expect(judge(true)).toContainEqual({
      severity: 'ok',
      subject: 'receiving',
      text: 'WAL is received as it is written, through slot "pgrecall"',
    })
    expect(worst(judge(true))).toBe('ok')
    expect(worst(judge(true, 9999))).toBe('ok')
  })

  test.each([
    [undefined, 'warn'],
    [900, 'warn'],
    [901, 'fail'],
  ] as const)('that is dead, with the last WAL %s s old: %s', (storedAgo, severity) => {
    const findings = judge(false, storedAgo)
    expect(told(findings, severity)[0]).toContain('nobody receives through slot "pgrecall"')
    expect(worst(findings)).toBe(severity)
  })

  test('of a standby is judged too', () => {
    expect(worst(judgeServer(serverFacts({ inRecovery: true, slot }), '7', 901))).toBe('fail')
  })
})

describe('pg_wal', () => {
  const behind = { walDisk: { freeBytes: 86_400 * 10 }, waiting: waitingFor(901) }

  test('fills in the time that its disk has room at the rate of WAL, while archiving is behind', () => {
    expect(secondsUntilFull(serverFacts({ ...behind, walBytesPerSecond: 10 }))).toBe(86_400)
    expect(
      secondsUntilFull(serverFacts({ ...behind, walBytesPerSecond: 10, waiting: waitingFor(10) })),
    ).toBeNull()
    expect(secondsUntilFull(serverFacts({ ...behind, walBytesPerSecond: null }))).toBeNull()
    const failing = { lastArchived: null, lastFailed: FAILED }
    expect(
      secondsUntilFull(
        serverFacts({ ...behind, walBytesPerSecond: 10, waiting: waitingFor(10), archiver: failing }),
      ),
    ).toBe(86_400)
  })

  test('whose rate is not known is not called safe while archiving is behind', () => {
    const finding = judgeServer(serverFacts(behind), '7').find(({ subject }) => subject === 'pg_wal')
    expect(finding).toMatchObject({ severity: 'warn', text: expect.stringContaining('is not known') })
  })

  test.each([
    [24 * 3600 - 1, 'fail'],
    [24 * 3600, 'warn'],
    [72 * 3600 - 1, 'warn'],
    [72 * 3600, 'ok'],
  ] as const)('that is full in %d s: %s', (fullInSeconds, severity) => {
    const finding = judgeServer(serverFacts({ fullInSeconds }), '7').find(
      ({ subject }) => subject === 'pg_wal',
    )
    expect(finding).toMatchObject({ severity, text: expect.stringContaining('at this rate WAL fills it in') })
  })
})

describe('a repository', () => {
  const judge = (facts: Parameters<typeof repositoryFacts>[0], server = serverFacts()) =>
    judgeRepository(repositoryFacts(facts), server)

  test('in which all is well', () => {
    expect(judge({})).toEqual([
      { severity: 'ok', subject: 'backups', text: 'the newest backup, 20261120T120000Z-full, is 1 h old' },
      { severity: 'ok', subject: 'space', text: '4.9 KiB are free in the repository' },
    ])
  })

  test('that cannot be read is a failure, and nothing else is said', () => {
    expect(judge({ error: 'not mounted', newestBackup: null })).toEqual([
      { severity: 'fail', subject: 'repository', text: 'not mounted' },
    ])
  })

  test('without a backup, with one that is old, damaged, or lacks its WAL', () => {
    expect(worst(judge({ newestBackup: null }))).toBe('fail')
    const old = { ...repositoryFacts().newestBackup!, ageSeconds: 8 * 24 * 3600 + 1 }
    expect(told(judge({ newestBackup: old }), 'warn')).toEqual([
      'the newest backup, 20261120T120000Z-full, is 8 days old',
    ])
    expect(worst(judge({ damagedRecords: [{ id: 'x', reason: 'y' }] }))).toBe('fail')
    expect(worst(judge({ damagedPages: [{ id: old.id, pages: 1 }] }))).toBe('fail')
    expect(told(judge({ damagedPages: [{ id: 'older', pages: 2 }] }), 'warn')).toEqual([
      'backup older has 2 damaged pages',
    ])
    expect(told(judge({ unusable: [{ id: 'b', missing: '000000010000000000000005' }] }), 'fail')).toEqual([
      'backup b cannot be recovered: its WAL segment 000000010000000000000005 is missing',
    ])
  })

  test('with a chain that is broken; beside the newest backup, the newest full one', () => {
    const missing = '20261118T120000Z-full'
    const damaged = { id: 'b', missing: 'main/backups/a/base.0001.tar.zst', reason: 'it is cut off' }
    expect(judge({ unusable: [damaged] })).toContainEqual({
      severity: 'fail',
      subject: 'backups',
      text: 'backup b cannot be recovered: main/backups/a/base.0001.tar.zst is damaged: it is cut off',
      hint: 'pgrecall verify --repair, or pgrecall backup',
    })
    expect(told(judge({ unusable: [{ id: '20261119T120000Z-incr', missing }] }), 'fail')).toEqual([
      `backup 20261119T120000Z-incr cannot be recovered: it builds upon ${missing}, which is missing, or not the backup that it was then`,
    ])
    const newestFull = repositoryFacts().newestBackup!
    const newestBackup = { ...newestFull, id: '20261120T130000Z-incr', ageSeconds: 600 }
    expect(told(judge({ newestBackup, newestFull }), 'ok')).toContain(
      'the newest backup, 20261120T130000Z-incr, is 10 min old; the newest full one, 20261120T120000Z-full, is 1 h old',
    )
    expect(told(judge({ newestBackup: newestFull, newestFull }), 'ok')[0]).not.toContain('full one')
  })

  test('with logical backups beside the physical ones, or alone', () => {
    const newestLogical = {
      ...repositoryFacts().newestBackup!,
      id: '20261120T130000Z-logical',
      ageSeconds: 600,
    }
    const old = { ...newestLogical, ageSeconds: 9 * 24 * 3600 }
    const text = 'the newest logical backup, 20261120T130000Z-logical, is 10 min old'
    expect(told(judge({ newestLogical }), 'ok')).toContain(text)
    expect(worst(judge({ newestLogical: old }))).toBe('ok')
    expect(told(judge({}), 'ok').join()).not.toContain('logical')
    const alone = judge({ newestBackup: null, newestLogical })
    expect(told(alone, 'warn')).toEqual([
      'there is no physical backup, so only what was dumped can be restored',
    ])
    expect(told(alone, 'ok')).toContain(text)
    expect(told(judge({ newestBackup: null, newestLogical: old }), 'warn')).toHaveLength(2)
    const older = { ...newestLogical, ageSeconds: 16 * 24 * 3600 }
    expect(told(judge({ newestBackup: older }), 'fail')).toEqual([
      'the newest backup, 20261120T130000Z-logical, is 16 days old',
    ])
    expect(worst(judge({ newestBackup: null }))).toBe('fail')
  })

  test('with a backup on a timeline that no recovery leads to: another one there does not help', () => {
    expect(judge({ unusable: [{ id: 'b', missing: '00000002.history' }] })).toContainEqual({
      severity: 'fail',
      subject: 'backups',
      text: "backup b cannot be recovered: its timeline's history is lost",
    })
  })

  const gap = {
    timeline: 1,
    first: '000000010000000000000005',
    last: '000000010000000000000006',
    segments: 2,
    dropped: [],
    ageSeconds: 60,
    isBehindAnother: false,
    cuts: [
      {
        timeline: 1,
        backups: ['a'],
        lostFrom: '2026-11-20T10:00:00.123456Z',
        lostUntil: '2026-11-20T12:00:30.5Z',
      },
    ],
  }

  test('with a gap on the way to now, which costs a span of time', () => {
    expect(told(judge({ gaps: [gap] }), 'fail')).toEqual([
      '000000010000000000000005 to 000000010000000000000006 are missing (2 segments); backup a cannot be recovered past it, and from 2026-11-20T10:00:00Z to 2026-11-20T12:00:30Z there is no way back',
    ])
    const open = { ...gap, cuts: [{ ...gap.cuts[0]!, lostUntil: null }] }
    expect(judge({ gaps: [open] })).toContainEqual(
      expect.objectContaining({ severity: 'fail', hint: 'take a backup now: pgrecall backup' }),
    )
  })

  test('with one that was given up: since when, and why', () => {
    const dropped = [{ ...gap, since: '2026-11-20T10:00:01.000Z', until: '', reason: 'too much WAL waited' }]
    expect(told(judge({ gaps: [{ ...gap, dropped }] }), 'fail')[0]).toContain(
      ', given up at 2026-11-20T10:00:01Z: too much WAL waited; backup a',
    )
    expect(worst(judge({ droppedAtEnd: dropped }))).toBe('fail')
  })

  test('with one that is younger than a minute, which may be filled at any moment', () => {
    expect(told(judge({ gaps: [{ ...gap, ageSeconds: 59 }] }), 'warn')).toEqual([
      '000000010000000000000005 to 000000010000000000000006 are missing (2 segments); they may be on the way',
    ])
    const dropped = [{ ...gap, since: '2026-11-20T10:00:01.000Z', until: '', reason: 'x' }]
    expect(worst(judge({ gaps: [{ ...gap, ageSeconds: 59, dropped }] }))).toBe('fail')
    expect(worst(judge({ gaps: [{ ...gap, ageSeconds: null }] }))).toBe('fail')
  })

  test('with one that is not on the way to now, or that no backup needs', () => {
    expect(worst(judge({ gaps: [gap], currentTimeline: 2 }))).toBe('warn')
    expect(told(judge({ gaps: [{ ...gap, cuts: [] }] }), 'ok')).toContain(
      '000000010000000000000005 to 000000010000000000000006 are missing (2 segments); no backup needs it',
    )
  })

  test('with one that ends no window, for another reason than that nobody needs it', () => {
    const uncut = { ...gap, cuts: [] }
    expect(told(judge({ gaps: [{ ...uncut, isBehindAnother: true }] }), 'ok')).toContainEqual(
      expect.stringContaining('; an earlier gap ends the way already'),
    )
    const unusable = [{ id: 'b', missing: gap.last }]
    expect(told(judge({ gaps: [uncut], unusable }), 'ok')).toContainEqual(
      expect.stringContaining('; backup b needs them'),
    )
  })

  test('that lacks a history, or has one that is damaged: nothing leads to that timeline', () => {
    const lost = { timeline: 2, file: '00000002.history', isDamaged: false }
    const judgeAt = (currentTimeline: number, isDamaged = false) =>
      judge({ currentTimeline, lostHistories: [{ ...lost, isDamaged }] })
    expect(told(judgeAt(2), 'fail')).toEqual([
      '00000002.history is missing, so no recovery leads to timeline 2',
    ])
    expect(told(judgeAt(2, true), 'fail')).toEqual([
      '00000002.history cannot be read, so no recovery leads to timeline 2',
    ])
    // A restore without a word about the timeline goes to the newest.
    expect(worst(judgeAt(1))).toBe('fail')
    expect(worst(judgeAt(3))).toBe('warn')
  })

  test('that lacks what the server takes for archived', () => {
    const archived = { ...repositoryFacts().archived!, behindSegments: 2 }
    expect(worst(judge({ archived }))).toBe('fail')
    expect(worst(judge({ archived: { ...archived, ageSeconds: 59 } }))).toBe('ok')
    // A segment that is just being archived, or that waits, is told with the server.
    expect(worst(judge({ archived: { ...archived, behindSegments: 1 } }))).toBe('ok')
    expect(worst(judge({ archived }, serverFacts({ waiting: waitingFor(10) })))).toBe('ok')
  })

  test('that lacks what another one has, or has little room', () => {
    const missing = [{ has: 'offsite', timeline: 1, first: gap.first, last: gap.last, segments: 2 }]
    expect(told(judge({ missing }), 'warn')).toEqual([
      '2 segments that "offsite" has are missing here: 000000010000000000000005 to 000000010000000000000006',
    ])
    expect(worst(judge({ freeBytes: 999 }))).toBe('warn')
    const newestFull = repositoryFacts().newestBackup!
    const newestBackup = { ...newestFull, storedBytes: 10 }
    expect(worst(judge({ freeBytes: 999, newestBackup, newestFull }))).toBe('warn')
    expect(worst(judge({ freeBytes: null }))).toBe('ok')
  })
})

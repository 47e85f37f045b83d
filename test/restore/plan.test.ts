import { describe, expect, test } from 'vitest'
import { formatLsn, type Lsn, lsn } from '../../src/postgres/lsn.ts'
import { parseHistory } from '../../src/postgres/timeline-history.ts'
import { chooseBackup, makePlan } from '../../src/restore/plan.ts'
import type { Evidence, RestoreQuestion } from '../../src/restore/question.ts'
import { parseMoment, type Target } from '../../src/restore/target.ts'
import { record, SEGMENT, summary } from '../catalog/stored.ts'

const MONDAY = '20261116T120000Z-full'
const TUESDAY = '20261117T120000Z-full'
const WEDNESDAY = '20261118T120000Z-full'
const ALL = [
  summary(MONDAY, { first: 10 }),
  summary(TUESDAY, { first: 20 }),
  summary(WEDNESDAY, { first: 30 }),
]
const ONE = parseHistory('', 1)

const at = (segment: number, offset = 0): Lsn => BigInt(segment) * BigInt(SEGMENT) + BigInt(offset)
const time = (text: string): Target => ({ kind: 'time', micros: parseMoment(text) })
const ask = (target: Target, more: Partial<RestoreQuestion> = {}): RestoreQuestion => ({
  backup: undefined,
  target,
  exclusive: false,
  action: 'promote',
  timeline: 'latest',
  standby: false,
  archiveMode: 'preserve',
  ...more,
})

describe('the backup', () => {
  test.each<[string, Target, string]>([
    ['for the end is the newest', { kind: 'end' }, WEDNESDAY],
    ['for its own end is the newest', { kind: 'immediate' }, WEDNESDAY],
    ['for a moment is the newest that ended before it', time('2026-11-17 20:00Z'), TUESDAY],
    ['for the moment of its end is that one', time('2026-11-17 12:00:30Z'), TUESDAY],
    ['for a microsecond earlier is the one before', time('2026-11-17 12:00:29.999999Z'), MONDAY],
    ['for an LSN is the newest that ended before it', { kind: 'lsn', lsn: at(29) }, TUESDAY],
    ['for the LSN of its end is that one', { kind: 'lsn', lsn: at(30, 0x1000) }, WEDNESDAY],
    ['for one byte earlier is the one before', { kind: 'lsn', lsn: at(30, 0xfff) }, TUESDAY],
  ])('%s', (_what, target, expected) => {
    expect(chooseBackup(ask(target), ALL, ONE).id).toBe(expected)
  })

  test.each(['xid', 'name'] as const)(
    'for a target of the kind %s is the newest before its place',
    (kind) => {
      const target: Target = kind === 'xid' ? { kind, xid: 7n } : { kind, name: 'x' }
      expect(chooseBackup(ask(target), ALL, ONE, at(25)).id).toBe(TUESDAY)
      expect(chooseBackup(ask(target), ALL, ONE, at(20, 0x1000)).id).toBe(TUESDAY)
      expect(chooseBackup(ask(target), ALL, ONE, at(20, 0xfff)).id).toBe(MONDAY)
    },
  )

  test('that is asked for is taken, though there are newer ones', () => {
    expect(chooseBackup(ask({ kind: 'end' }, { backup: MONDAY }), ALL, ONE).id).toBe(MONDAY)
  })

  test('that is asked for and ends after the target is refused, with the way out', () => {
    const question = ask(time('2026-11-17 20:00Z'), { backup: WEDNESDAY })
    expect(() => chooseBackup(question, ALL, ONE)).toThrow(
      expect.objectContaining({
        kind: 'unreachable',
        message: `2026-11-17 20:00:00+00 lies before the end of backup ${WEDNESDAY}: 2026-11-18 12:00:30+00 (LSN ${formatLsn(at(30, 0x1000))})`,
        hint: 'leave the id out to let pgrecall choose an earlier backup',
      }),
    )
  })

  test('that is not there is told', () => {
    const question = ask({ kind: 'end' }, { backup: '20260101T000000Z-full' })
    expect(() => chooseBackup(question, ALL, ONE)).toThrow(expect.objectContaining({ kind: 'absent' }))
  })

  test('before which the target lies is refused with the earliest moment that can be had', () => {
    expect(() => chooseBackup(ask(time('2026-11-01Z')), ALL, ONE)).toThrow(
      expect.objectContaining({
        kind: 'unreachable',
        message: expect.stringContaining(`before the end of the oldest backup that leads there, ${MONDAY}`),
        hint: `the earliest moment that can be recovered is 2026-11-16 12:00:30+00 (LSN ${formatLsn(at(10, 0x1000))})`,
      }),
    )
  })

  test('lies on the way to the timeline', () => {
    // Timeline 2 left 1 in segment 25: Wednesday's backup of timeline 1 does not lead there.
    const path = parseHistory(`1\t${formatLsn(at(25))}\tx\n`, 2)
    expect(chooseBackup(ask({ kind: 'end' }), ALL, path).id).toBe(TUESDAY)
    const onTwo = summary('20261119T120000Z-full', { first: 26, timeline: 2 })
    expect(chooseBackup(ask({ kind: 'end' }), [...ALL, onTwo], path).id).toBe(onTwo.id)
    expect(chooseBackup(ask({ kind: 'end' }), [...ALL, onTwo], ONE).id).toBe(WEDNESDAY)
    expect(() => chooseBackup(ask({ kind: 'end' }, { backup: WEDNESDAY }), ALL, path)).toThrow(
      expect.objectContaining({
        kind: 'unreachable',
        hint: expect.stringContaining('--target-timeline current'),
      }),
    )
    expect(() => chooseBackup(ask({ kind: 'end' }), [ALL[2]!], path)).toThrow(
      expect.objectContaining({ kind: 'absent' }),
    )
  })
})

describe('the plan', () => {
  const evidence = (more: Partial<Evidence> = {}): Evidence => ({
    reach: { legs: [{ timeline: 1, first: 30n, last: 39n }], end: at(40), gap: undefined },
    found: undefined,
    lastMoment: parseMoment('2026-11-18 18:00Z'),
    lastTransaction: at(39, 0x100),
    lastLsn: at(39, 0x500),
    ...more,
  })
  const plan = (
    target: Target,
    facts: Partial<Evidence> = {},
    more: {
      question?: Partial<RestoreQuestion>
      backup?: Parameters<typeof record>[1]
      map?: [string, string][]
    } = {},
  ) =>
    makePlan({
      question: ask(target, more.question),
      repository: 'local',
      chain: [record(WEDNESDAY, { first: 30, ...more.backup })],
      path: ONE,
      evidence: evidence(facts),
      dataDirectory: '/srv/restored',
      tablespaceMap: new Map(more.map),
      delta: false,
      partial: undefined,
      restoreCommand: 'pgrecall wal-fetch %f "%p"',
    })

  test('for the end takes all WAL, and promotes whatever action is asked for', () => {
    expect(plan({ kind: 'end' }, {}, { question: { action: 'pause' } })).toMatchObject({
      dataDirectory: '/srv/restored',
      timeline: 1,
      target: { kind: 'end', action: 'promote' },
      wal: {
        segments: 10,
        legs: [{ timeline: 1, first: '00000001000000000000001E', last: '000000010000000000000027' }],
      },
      recoversTo: '2026-11-18 18:00:00+00',
    })
  })

  test.each<[string, Target, Partial<Evidence>, boolean, number]>([
    ['a moment before the last transaction', time('2026-11-18 17:59:59.999999Z'), {}, false, 10],
    ['the moment of the last transaction, exclusive', time('2026-11-18 18:00Z'), {}, true, 10],
    ['an LSN before the last record', { kind: 'lsn', lsn: at(33, 5) }, {}, false, 4],
    ['a transaction that was found', { kind: 'xid', xid: 7n }, { found: at(31, 9) }, false, 2],
    ['a restore point that was found', { kind: 'name', name: 'x' }, { found: at(31, 9) }, false, 2],
    ['the end of the backup', { kind: 'immediate' }, { lastMoment: undefined, lastLsn: undefined }, false, 1],
  ])('reaches %s', (_what, target, facts, exclusive, segments) => {
    expect(plan(target, facts, { question: { exclusive } }).wal.segments).toBe(segments)
  })

  test.each<[string, Target, Partial<Evidence>, boolean]>([
    [
      'the moment of the last transaction, which nothing shows to be over',
      time('2026-11-18 18:00Z'),
      {},
      false,
    ],
    ['a moment after the last transaction', time('2026-11-18 18:00:00.000001Z'), {}, true],
    [
      'a moment where the WAL holds no transaction',
      time('2026-11-18 13:00Z'),
      { lastMoment: undefined },
      false,
    ],
    ['an LSN after the last record', { kind: 'lsn', lsn: at(39, 0x501) }, {}, false],
    ['a transaction that was not found', { kind: 'xid', xid: 7n }, {}, false],
    ['a restore point that was not found', { kind: 'name', name: 'x' }, {}, false],
  ])('is refused for %s, with the last moment that can be had', (_what, target, facts, exclusive) => {
    expect(() => plan(target, facts, { question: { exclusive } })).toThrow(
      expect.objectContaining({
        kind: 'unreachable',
        message: expect.stringContaining('cannot be reached'),
        hint: expect.stringMatching(/the last moment that can be recovered from .*2026-11-18 1[28]:00/),
      }),
    )
  })

  test('says how to get to the last moment, which as a time is refused, and goes there', () => {
    expect(() => plan(time('2026-11-18 18:00Z'))).toThrow(
      expect.objectContaining({
        hint: `the last moment that can be recovered from ${WEDNESDAY} is 2026-11-18 18:00:00+00: with --lsn ${formatLsn(at(39, 0x100))}, or by --time what lies before it`,
      }),
    )
    expect(plan({ kind: 'lsn', lsn: at(39, 0x100) }).wal.segments).toBe(10)
  })

  test('reads nothing ahead of a target before a hole, unless as a standby, which asks again', () => {
    const reach = { ...evidence().reach, gap: '000000010000000000000028' }
    const linesOf = (facts: Partial<Evidence>, standby: boolean) =>
      plan({ kind: 'immediate' }, facts, { question: { standby } }).settings.lines
    expect(linesOf({ reach }, false)).toContain(`recovery_prefetch = 'off'`)
    for (const lines of [linesOf({ reach }, true), linesOf({}, false)])
      expect(lines.join()).not.toContain('recovery_prefetch')
  })

  test('is refused when the WAL does not make the backup consistent, and names the hole', () => {
    const gap = '00000001000000000000001F'
    const reach = { legs: [{ timeline: 1, first: 30n, last: 30n }], end: at(31), gap }
    const backup = { last: 32 }
    for (const target of [{ kind: 'immediate' }, { kind: 'end' }, time('2026-11-18 13:00Z')] as Target[]) {
      expect(() => plan(target, { reach }, { backup })).toThrow(
        expect.objectContaining({
          kind: 'unreachable',
          message: `backup ${WEDNESDAY} cannot be made consistent: its WAL is not all in the archive; ${gap} is missing from the archive`,
        }),
      )
    }
    const standalone = { ...backup, standalone: true }
    expect(plan({ kind: 'immediate' }, { reach }, { backup: standalone }).backup.id).toBe(WEDNESDAY)
  })

  test('names a hole that lies before the target', () => {
    const gap = '000000010000000000000028'
    const reach = { ...evidence().reach, gap }
    expect(() => plan({ kind: 'lsn', lsn: at(45) }, { reach })).toThrow(
      `; ${gap} is missing from the archive`,
    )
    expect(plan({ kind: 'lsn', lsn: at(35, 1) }, { reach }).wal.segments).toBe(6)
  })

  test('does not go to the end quietly when later WAL lies behind a hole', () => {
    const gap = '000000010000000000000028'
    let answer: string
    try {
      answer = plan({ kind: 'end' }, { reach: { ...evidence().reach, gap } }).warnings.join()
    } catch (error) {
      answer = (error as Error).message
    }
    expect(answer).toContain(gap)
  })

  test('has the settings of the recovery in it', () => {
    const { settings } = plan({ kind: 'immediate' }, {}, { question: { action: 'pause', timeline: 3 } })
    expect(settings.lines).toEqual(
      expect.arrayContaining([
        `restore_command = 'pgrecall wal-fetch %f "%p"'`,
        `recovery_target_timeline = '3'`,
        `recovery_target = 'immediate'`,
        `recovery_target_action = 'pause'`,
      ]),
    )
  })

  test('warns of files that are not in the backup', () => {
    const backup = { outsideFiles: ['/etc/postgresql/17/main/postgresql.conf'] }
    expect(plan({ kind: 'end' }, {}, { backup }).warnings).toEqual([
      '/etc/postgresql/17/main/postgresql.conf was outside the data directory and is not part of the backup',
    ])
  })

  describe('for tablespaces', () => {
    const tablespaces = [
      { oid: '16390', name: 'fast', location: '/mnt/fast', bytes: 1 },
      { oid: '16391', name: 'large', location: '/mnt/large', bytes: 1 },
      { oid: '16392', name: 'other', location: '/mnt/other', bytes: 1 },
    ]
    const places = (map: [string, string][]) =>
      plan({ kind: 'end' }, {}, { backup: { tablespaces }, map }).tablespaces.map(({ from, to }) => [
        from,
        to,
      ])

    test('takes new places by location, name or oid, and leaves the others', () => {
      expect(
        places([
          ['/mnt/fast', '/new/a'],
          ['large', '/new/b'],
        ]),
      ).toEqual([
        ['/mnt/fast', '/new/a'],
        ['/mnt/large', '/new/b'],
        ['/mnt/other', '/mnt/other'],
      ])
      expect(places([['16392', '/new/c']])[2]).toEqual(['/mnt/other', '/new/c'])
    })

    test('refuses one that the backup does not have, and lists those that it has', () => {
      expect(() => places([['/mnt/slow', '/new']])).toThrow(
        expect.objectContaining({
          kind: 'usage',
          message: expect.stringContaining('fast at /mnt/fast, large at /mnt/large'),
        }),
      )
    })
  })

  test('is plain data that can be shown as it is', () => {
    const made = plan({ kind: 'end' })
    expect(JSON.parse(JSON.stringify(made))).toEqual({ ...made, recoversTo: made.recoversTo })
    expect(lsn(made.backup.stop.lsn)).toBe(at(30, 0x1000))
  })
})

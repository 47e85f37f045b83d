import { describe, expect, test } from 'vitest'
import type { BackupSummary } from '../../src/catalog/backup-record.ts'
import { formatLsn } from '../../src/postgres/lsn.ts'
import { segmentStart } from '../../src/postgres/wal-file.ts'
import { planRetention, type RetentionPlan } from '../../src/retention/plan.ts'
import { increment, logicalSummary, SEGMENT, summary } from '../catalog/stored.ts'
import { catalogOf, name } from './plan-for.ts'

const DAY = 24 * 60 * 60_000
const NOW = new Date('2026-11-11T00:00:00Z')
/** At noon of a day, in segments of its own: 10 to 11 on the first. */
const onDay = (day: number, facts: Parameters<typeof summary>[1] = {}) =>
  summary(`202611${String(day).padStart(2, '0')}T120000Z-full`, {
    first: day * 10,
    last: day * 10 + 1,
    ...facts,
  })
const at = (moment: string, first: number) =>
  summary(`${moment.replace(/[-:]/g, '')}-full`, { first, last: first + 1 })
/** On each of the first ten days. */
const TEN = Array.from({ length: 10 }, (_, index) => onDay(index + 1))
const ALL_WAL = [{ first: 5, last: 110, storedAt: '2026-11-10T23:00:00.000Z' }]
const situation = { now: NOW, readers: [] }

const staying = ({ backups }: RetentionPlan) => backups.filter(({ stays }) => stays).map(({ id }) => id)
const ids = (...days: number[]) => days.map((day) => TEN[day - 1]!.id)
const reasons = ({ backups }: RetentionPlan) => backups.map(({ reason }) => reason)

describe('a window', () => {
  test('keeps what ended within it, and the newest that had ended before, with all WAL from there on', () => {
    const plan = planRetention(catalogOf(TEN, ALL_WAL), { window: 3 * DAY }, situation)
    expect(staying(plan)).toEqual(ids(7, 8, 9, 10))
    expect(reasons(plan).slice(5, 8)).toEqual(['no rule wants it', 'leads into 3d', 'within 3d'])
    expect(plan.walBefore).toBe(70n)
    const window = { until: '2026-11-10T23:00:00.000Z', end: '0/6F000000' }
    expect(plan.recovery).toEqual([
      {
        timeline: 1,
        before: [{ from: TEN[0]!.stop.time, ...window }],
        after: [{ from: TEN[6]!.stop.time, ...window }],
      },
    ])
  })

  test('keeps the beginning of each stretch that reaches into it, and of none that does not', () => {
    const runs = [
      { first: 5, last: 25, storedAt: '2026-11-02T20:00:00.000Z' },
      { first: 30, last: 58, storedAt: '2026-11-09T01:00:00.000Z' },
      { first: 60, last: 110, storedAt: '2026-11-10T23:00:00.000Z' },
    ]
    const five = [1, 2, 3, 5, 9].map((day) => onDay(day))
    const plan = planRetention(catalogOf(five, runs), { window: 3 * DAY }, situation)
    expect(staying(plan)).toEqual(ids(5, 9))
  })

  test('keeps the nearest backup before it where a hole lies between', () => {
    const runs = [
      { first: 5, last: 25, storedAt: '2026-11-02T20:00:00.000Z' },
      { first: 90, last: 110, storedAt: '2026-11-10T23:00:00.000Z' },
    ]
    const plan = planRetention(
      catalogOf(
        [1, 2, 9].map((day) => onDay(day)),
        runs,
      ),
      { window: 3 * DAY },
      situation,
    )
    expect(staying(plan)).toEqual(ids(2, 9))
  })

  test('looks at each timeline by itself: what was left for another one may still be asked for', () => {
    const runs = [
      { first: 5, last: 85, storedAt: '2026-11-09T12:00:00.000Z' },
      { timeline: 2, first: 45, last: 75, storedAt: '2026-11-10T23:00:00.000Z' },
    ]
    const backups = [onDay(3), onDay(5), onDay(6), onDay(9, { first: 60, last: 61, timeline: 2 })]
    const catalog = catalogOf(backups, runs)
    catalog.wal[1]!.history = [{ timeline: 1, switchedAt: formatLsn(segmentStart(45n, SEGMENT) + 0x5000n) }]
    const plan = planRetention(catalog, { window: 3 * DAY }, situation)
    // The third day leads into the second timeline, the sixth into the end of the first one.
    expect(staying(plan)).toEqual([backups[0]!.id, backups[2]!.id, backups[3]!.id])
    expect(plan.recovery.map(({ timeline, after }) => [timeline, after.map(({ from }) => from)])).toEqual([
      [1, [backups[0]!.stop.time]],
      [2, [backups[0]!.stop.time]],
    ])
  })
})

describe('a calendar', () => {
  test('keeps the newest of each of the last periods that have one, and says of which', () => {
    const plan = planRetention(
      catalogOf(TEN, ALL_WAL),
      { daily: 2, weekly: 2, monthly: 1, yearly: 1, timeZone: 'UTC' },
      situation,
    )
    expect(staying(plan)).toEqual(ids(8, 9, 10))
    expect(reasons(plan).slice(7)).toEqual([
      'weekly 2026-W45',
      'daily 2026-11-09',
      'daily 2026-11-10; weekly 2026-W46; monthly 2026-11; yearly 2026',
    ])
  })

  test('has its days where the cluster is', () => {
    const late = [
      at('2026-10-24T21:30:00Z', 10),
      at('2026-10-24T22:30:00Z', 20),
      at('2026-10-25T23:30:00Z', 30),
    ]
    const kept = (timeZone: string) =>
      reasons(planRetention(catalogOf(late, ALL_WAL), { daily: 9, timeZone }, situation))
    expect(kept('UTC')).toEqual(['no rule wants it', 'daily 2026-10-24', 'daily 2026-10-25'])
    // The clocks were put back on the 25th.
    expect(kept('Europe/Berlin')).toEqual(['daily 2026-10-24', 'daily 2026-10-25', 'daily 2026-10-26'])
  })

  test('has weeks from Monday to Sunday, of the year of their Thursday', () => {
    const days = ['2026-12-27', '2026-12-28', '2027-01-03', '2027-01-04']
    const backups = days.map((day, index) => at(`${day}T12:00:00Z`, 10 + 10 * index))
    const plan = planRetention(
      catalogOf(backups, ALL_WAL),
      { weekly: 9 },
      { ...situation, now: new Date('2027-02-01') },
    )
    expect(reasons(plan)).toEqual([
      'weekly 2026-W52',
      'no rule wants it',
      'weekly 2026-W53',
      'weekly 2027-W01',
    ])
  })

  test('has no place for what ended later than now, and keeps it all the same', () => {
    const backups = [...TEN.slice(0, 9), summary('20360101T120000Z-full', { first: 100, last: 101 })]
    const plan = planRetention(catalogOf(backups, ALL_WAL), { daily: 1 }, situation)
    expect(staying(plan)).toEqual([TEN[8]!.id, backups[9]!.id])
    expect(reasons(plan)[9]).toBe('ended later than now, by its clock')
    expect(plan.warnings).toEqual([
      `backup ${backups[9]!.id} ended at 2036-01-01T12:00:30.000000Z by its clock, which is later than now`,
    ])
  })

  test('does not count what cannot be recovered', () => {
    const runs = [{ first: 5, last: 95 }]
    expect(staying(planRetention(catalogOf(TEN, runs), { daily: 1 }, situation))).toEqual(ids(9, 10))
  })
})

describe('so many full backups never go', () => {
  test('where no other rule wants one', () => {
    const backups = [onDay(1), increment('20261102T120000Z-incr', onDay(1), { first: 20 }), onDay(3)]
    const broken = { ...increment('20261104T120000Z-incr', onDay(2), { first: 40 }) }
    const plan = planRetention(
      catalogOf([...backups, broken], [{ first: 5, last: 50 }]),
      { daily: 1 },
      situation,
    )
    expect(reasons(plan)).toEqual([
      'no rule wants it',
      'no rule wants it',
      'daily 2026-11-03',
      'its chain is broken',
    ])
    const two = planRetention(
      catalogOf(backups, [{ first: 5, last: 50 }]),
      { daily: 1, minimum: 2 },
      situation,
    )
    expect(reasons(two)[0]).toBe('the newest 2 full ones never go')
  })

  test.each([
    ['has gone back', '19700101T120000Z-full'],
    ['was ahead before', '20261103T120000Z-full'],
  ])('the newest being what the WAL says, also where a clock %s', (_which, id) => {
    const ahead = summary('20360101T120000Z-full', { first: 20, last: 21 })
    const newest = summary(id, { first: 90, last: 91 })
    const backups = [newest, onDay(1), ahead].toSorted((a, b) => (a.id < b.id ? -1 : 1))
    for (const rules of [{ full: 1 }, { yearly: 1 }, { window: DAY }])
      expect(staying(planRetention(catalogOf(backups, ALL_WAL), rules, situation))).toContain(newest.id)
  })

  test.each(['1970-01-01T00:00:00Z', '2036-01-01T00:00:00Z'])('and now is %s', (now) => {
    const rules = { window: DAY, daily: 1, minimum: 3 }
    const plan = planRetention(catalogOf(TEN, ALL_WAL), rules, { now: new Date(now), readers: [] })
    expect(staying(plan)).toEqual(expect.arrayContaining(ids(8, 9, 10)))
  })
})

test('a clock that went back does not make a backup one that had ended before the window', () => {
  const lying = summary('19700101T120000Z-full', { first: 95, last: 96 })
  const plan = planRetention(catalogOf([lying, ...TEN.slice(0, 6)], ALL_WAL), { window: 3 * DAY }, situation)
  expect(staying(plan)).toEqual([lying.id, ...ids(6)])
  expect(reasons(plan)[0]).toBe('the newest full one never goes')
})

describe('differential and incremental ones', () => {
  const F1 = onDay(1)
  const on = (day: number, type: string, below: BackupSummary) =>
    increment(`202611${String(day).padStart(2, '0')}T120000Z-${type}`, below, { first: day * 10 })
  const D2 = on(2, 'diff', F1)
  const I3 = on(3, 'incr', D2)
  const D4 = on(4, 'diff', F1)
  const I5 = on(5, 'incr', D4)
  const ALL = [F1, D2, I3, D4, I5]

  test('are counted within what the full ones keep, and what they build upon stays', () => {
    const plan = planRetention(catalogOf(ALL, ALL_WAL), { full: 1, diff: 1, incr: 2 }, situation)
    expect(reasons(plan)).toEqual([
      'one of the newest 1',
      `needed by ${I3.id}`,
      'one of the newest 2 incremental ones',
      'one of the newest 1 differential ones',
      'one of the newest 2 incremental ones',
    ])
    const fewer = planRetention(catalogOf(ALL, ALL_WAL), { full: 1, diff: 1, incr: 1 }, situation)
    expect(staying(fewer)).toEqual([F1.id, D4.id, I5.id])
    expect(reasons(fewer)[1]).toBe('no rule wants it')
  })

  test('have no number without one of full backups', () => {
    expect(() => planRetention(catalogOf(ALL, []), { incr: 1 }, situation)).toThrow(RangeError)
  })
})

describe('WAL for a shorter time than the backups', () => {
  test('older backups keep what makes them consistent, and one can go back to their ends only', () => {
    const plan = planRetention(catalogOf(TEN, ALL_WAL), { full: 4, wal: 2 * DAY }, situation)
    expect(plan.walBefore).toBe(80n)
    expect(plan.ownWal).toEqual([{ timeline: 1, first: name(70), last: name(71) }])
    expect(
      plan.wal.map(({ first, last, segments, storedBytes }) => [first, last, segments, storedBytes]),
    ).toEqual([
      [name(5), name(69), 65, 650],
      [name(72), name(79), 8, 80],
    ])
    expect(plan.recovery[0]!.after.map(({ from, until }) => [from, until !== undefined])).toEqual([
      [TEN[6]!.stop.time, false],
      [TEN[7]!.stop.time, true],
    ])
  })

  test('a window keeps its WAL, whatever is said of WAL', () => {
    const plan = planRetention(catalogOf(TEN, ALL_WAL), { full: 9, window: 5 * DAY, wal: DAY }, situation)
    expect(plan.walBefore).toBe(50n)
  })

  test('goes by no rule for backups, too', () => {
    const plan = planRetention(catalogOf(TEN, ALL_WAL), { wal: DAY }, situation)
    expect([staying(plan).length, plan.walBefore, plan.ownWal.length]).toEqual([10, 90n, 8])
  })

  test('what somebody reads keeps all WAL from it on', () => {
    const readers = [{ backup: TEN[2]!.id, purpose: 'restore' }]
    const plan = planRetention(catalogOf(TEN, ALL_WAL), { full: 9, wal: DAY }, { now: NOW, readers })
    expect(plan.walBefore).toBe(30n)
  })

  test('the way to the newest moment stays, however long ago that was', () => {
    const runs = [{ first: 5, last: 110, storedAt: '2026-11-10T23:00:00.000Z' }]
    const later = { now: new Date('2027-11-11T00:00:00Z'), readers: [] }
    expect(planRetention(catalogOf(TEN, runs), { full: 4, wal: DAY }, later).walBefore).toBe(100n)
  })

  test('and the way to the newest timeline, where newer backups lie on one that was left', () => {
    const runs = [
      { first: 5, last: 110, storedAt: '2026-11-03T12:00:00.000Z' },
      { timeline: 2, first: 45, last: 60, storedAt: '2026-11-04T12:00:00.000Z' },
    ]
    const catalog = catalogOf([onDay(1), onDay(3), onDay(8)], runs)
    catalog.wal[1]!.history = [{ timeline: 1, switchedAt: formatLsn(segmentStart(45n, SEGMENT) + 0x5000n) }]
    const plan = planRetention(catalog, { window: DAY, wal: DAY }, situation)
    expect([staying(plan), plan.walBefore]).toEqual([ids(3, 8), 30n])
  })

  test('what is newer than all that can be recovered keeps its WAL: the rest may still arrive', () => {
    const late = onDay(9, { first: 20, last: 21, timeline: 2 })
    const runs = [...ALL_WAL, { timeline: 2, first: 21, last: 22, storedAt: '2026-11-10T23:00:00.000Z' }]
    const plan = planRetention(catalogOf([...TEN.slice(0, 8), late], runs), { full: 3, wal: DAY }, situation)
    expect(plan.walBefore).toBe(20n)
  })

  test('a last segment that only the next timeline has stays as well', () => {
    const runs = [
      { first: 5, last: 30, storedAt: '2026-11-03T13:00:00.000Z' },
      { timeline: 2, first: 31, last: 110, storedAt: '2026-11-10T23:00:00.000Z' },
    ]
    const backups = [onDay(3), onDay(8, { timeline: 2 }), onDay(10, { timeline: 2 })]
    const catalog = catalogOf(backups, runs)
    catalog.wal[1]!.history = [{ timeline: 1, switchedAt: formatLsn(segmentStart(31n, SEGMENT) + 0x5000n) }]
    const plan = planRetention(catalog, { full: 3, wal: DAY }, situation)
    expect(plan.ownWal).toEqual([
      { timeline: 1, first: name(30), last: name(31) },
      { timeline: 2, first: name(31, 2), last: name(31, 2) },
    ])
    expect(plan.wal.map(({ first, last }) => [first, last])).toEqual([
      [name(5), name(29)],
      [name(32, 2), name(79, 2)],
    ])
  })

  test('one that holds its WAL inside needs none', () => {
    const backups = [onDay(3, { standalone: true }), onDay(8), onDay(10)]
    expect(planRetention(catalogOf(backups, ALL_WAL), { full: 3, wal: DAY }, situation).ownWal).toEqual([])
  })
})

test('a pin holds a backup of either kind until its day, and says why', () => {
  const catalog = catalogOf(TEN.slice(0, 4), ALL_WAL)
  catalog.logical = [1, 2].map((day) => logicalSummary(`2026110${day}T130000Z-logical`))
  const later = new Date('2027-01-01T00:00:00Z')
  const plan = planRetention(
    catalog,
    { full: 1, logical: 1 },
    {
      ...situation,
      pinned: [
        { backup: TEN[0]!.id, until: later, reason: 'the audit' },
        { backup: TEN[1]!.id, until: NOW, reason: 'the release' },
        { backup: TEN[3]!.id, reason: 'for good' },
        { backup: catalog.logical[0]!.id, until: later, reason: 'the audit' },
      ],
    },
  )
  expect(reasons(plan)).toEqual([
    'pinned until 2027-01-01T00:00:00Z: the audit',
    'beyond the newest 1',
    'beyond the newest 1',
    'one of the newest 1; pinned: for good',
  ])
  expect(plan.logical.map(({ reason }) => reason)).toEqual([
    'pinned until 2027-01-01T00:00:00Z: the audit',
    'one of the newest 1',
  ])
})

test.each([{ window: 0 }, { wal: Number.NaN }, { daily: 0 }, { minimum: 0 }])('%o is no rule', (rules) => {
  expect(() => planRetention(catalogOf(TEN, []), rules, situation)).toThrow(RangeError)
})

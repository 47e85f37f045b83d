import { describe, expect, test } from 'vitest'
import type { BackupSummary } from '../../src/catalog/backup-record.ts'
import type { Catalog } from '../../src/catalog/catalog.ts'
import { chainOf } from '../../src/catalog/chain.ts'
import { KnownDamage, REPAIR_TEXT } from '../../src/catalog/known-damage.ts'
import { segmentNumberOf } from '../../src/catalog/wal-ranges.ts'
import { formatLsn } from '../../src/postgres/lsn.ts'
import { segmentStart } from '../../src/postgres/wal-file.ts'
import { inOrderOfRemoval, planRetention, type RetentionPlan } from '../../src/retention/plan.ts'
import type { RetentionRules } from '../../src/retention/rules.ts'
import { randomHistory } from '../catalog/random-history.ts'
import { increment, logicalSummary, MIB, SEGMENT, summary } from '../catalog/stored.ts'
import { catalogOf, name, planFor } from './plan-for.ts'

const idOf = (day: number) => `202611${String(day).padStart(2, '0')}T120000Z-full`

const FOUR = [1, 2, 3, 4].map((day) => summary(idOf(day), { first: day * 100, last: day * 100 + 2 }))
const stays = (plan: RetentionPlan) => plan.backups.filter((backup) => backup.stays).map(({ id }) => id)

test('what is known to be damaged does not count, nor does what builds upon it; it stays as long as that matters', () => {
  const upon = increment('20261104T180000Z-incr', FOUR[3]!, { first: 420 })
  const dumps = [1, 2].map((day) => logicalSummary(`2026110${day}T000000Z-logical`))
  const catalog = { ...catalogOf([...FOUR, upon], [{ first: 90, last: 450 }]), logical: dumps }
  const planWith = (keys: string[], rules: RetentionRules) => {
    const damaged = keys.map((key) => ({ key: `main/backups/${key}`, reason: 'it is missing', foundAt: '' }))
    const damage = new KnownDamage(catalog, { damaged })
    return planRetention(catalog, rules, { now: new Date('2026-12-01T00:00:00Z'), readers: [], damage })
  }
  const shard = `${idOf(4)}/base.0001.tar.zst`
  const plan = planWith([shard], { full: 1 })
  expect(stays(plan)).toEqual([idOf(3), idOf(4), upon.id])
  expect(plan.backups.slice(2).map(({ reason }) => reason)).toEqual([
    'one of the newest 1',
    'known to be damaged, so not counted',
    'known to be damaged',
  ])
  const known = `is known to be damaged (main/backups/${shard}: it is missing); it stays, and`
  expect(plan.warnings).toEqual([
    `backup ${idOf(4)} ${known} does not count as one of those that are kept; ${REPAIR_TEXT}`,
    `backup ${upon.id} ${known} cannot be recovered; ${REPAIR_TEXT}`,
  ])
  // What a window wants, and to where one can go back, is told of sound ones.
  const days = (count: number) => count * 24 * 60 * 60_000
  expect(planWith([shard], { window: days(26) }).backups[2]!.reason).toBe('leads into 26d')
  const { recovery } = planWith([`${idOf(1)}/base.0001.tar.zst`], { full: 4 })
  expect(recovery[0]!.before[0]!.from).toBe(FOUR[1]!.stop.time)
  expect(stays(planWith([`${idOf(3)}/base.0001.tar.zst`], { full: 1 }))).toEqual([idOf(4), upon.id])
  const without = planWith([`${dumps[1]!.id}/postgres.dump`], { full: 1, logical: 1 })
  expect(without.logical.map((each) => each.reason)).toEqual([
    'one of the newest 1',
    'known to be damaged, so not counted',
  ])
  expect(without.warnings).toEqual([expect.stringContaining(`backup ${dumps[1]!.id} is known`)])
})

test('the newest backups stay, with all WAL from the first of them on', () => {
  const plan = planFor(catalogOf(FOUR, [{ first: 90, last: 450 }]), { full: 2 }, [])
  expect(plan.backups).toEqual([
    {
      id: idOf(1),
      stopTime: FOUR[0]!.stop.time,
      storedBytes: 100,
      stays: false,
      wishes: [],
      reason: 'beyond the newest 2',
    },
    {
      id: idOf(2),
      stopTime: FOUR[1]!.stop.time,
      storedBytes: 100,
      stays: false,
      wishes: [],
      reason: 'beyond the newest 2',
    },
    {
      id: idOf(3),
      stopTime: FOUR[2]!.stop.time,
      storedBytes: 100,
      stays: true,
      wishes: [{ rule: 'full', text: 'one of the newest 2' }],
      reason: 'one of the newest 2',
    },
    {
      id: idOf(4),
      stopTime: FOUR[3]!.stop.time,
      storedBytes: 100,
      stays: true,
      wishes: [{ rule: 'full', text: 'one of the newest 2' }],
      reason: 'one of the newest 2',
    },
  ])
  expect(plan.walBefore).toBe(300n)
  expect(plan.wal).toEqual([
    { timeline: 1, first: name(90), last: name(299), segments: 210, storedBytes: 2100, isShare: true },
  ])
  expect(plan.warnings).toEqual([])
})

test('a pinned backup stays, and so does the WAL from it on', () => {
  const pins = [{ backup: idOf(1), purpose: 'restore on db2' }]
  const plan = planFor(catalogOf(FOUR, [{ first: 90, last: 450 }]), { full: 1 }, pins)
  expect(stays(plan)).toEqual([idOf(1), idOf(4)])
  expect(plan.backups[0]!.reason).toBe('in use: restore on db2')
  expect(plan.walBefore).toBe(100n)
  expect(plan.wal.map(({ segments }) => segments)).toEqual([10])
})

test('a backup whose record is locked stays with the WAL from it on, and the plan says until when', () => {
  const until = new Date('2026-12-20T01:17:05.120Z')
  const locks = new Map([idOf(2), idOf(4)].map((id) => [id, until]))
  const plan = planFor(catalogOf(FOUR, [{ first: 90, last: 450 }]), { full: 1 }, [], locks)
  expect(stays(plan)).toEqual([idOf(2), idOf(4)])
  expect(plan.backups[1]!.reason).toBe('locked until 2026-12-20T01:17:05Z')
  expect(plan.backups[3]!.reason).toBe('one of the newest 1')
  expect(plan.walBefore).toBe(200n)
})

test('with fewer backups than the rule asks for all of them stay', () => {
  expect(stays(planFor(catalogOf(FOUR, []), { full: 9 }, []))).toHaveLength(4)
})

test('without any backup no WAL goes: the first backup may be under way', () => {
  const plan = planFor(catalogOf([], [{ first: 1, last: 50 }]), { full: 1 }, [])
  expect(plan.walBefore).toBeUndefined()
  expect(plan.wal).toEqual([])
})

test('a backup that cannot be read keeps all WAL, and does not count as one that is kept', () => {
  const catalog = {
    ...catalogOf(FOUR, [{ first: 1, last: 450 }]),
    damaged: [{ id: idOf(5), reason: 'it is cut off' }],
  }
  const plan = planFor(catalog, { full: 2 }, [])
  expect(stays(plan)).toEqual([idOf(3), idOf(4)])
  expect(plan.walBefore).toBeUndefined()
  expect(plan.wal).toEqual([])
  expect(plan.warnings).toEqual([
    `backup ${idOf(5)} cannot be read (it is cut off); it stays, and so does all WAL`,
  ])
})

describe('a backup that cannot be recovered does not count', () => {
  const ids = [1, 2, 3].map(idOf)
  const three = (facts: Parameters<typeof summary>[1] = {}) => [
    summary(ids[0]!, { first: 10, last: 11 }),
    summary(ids[1]!, { first: 20, last: 21 }),
    summary(ids[2]!, { first: 30, last: 32, ...facts }),
  ]
  const kept = (catalog: Catalog, full = 1) => stays(planFor(catalog, { full }, []))

  test.each([
    ['a segment in the middle', [31]],
    ['the first', [30]],
    ['the last', [32]],
  ])('as it lacks %s: the one before it stays', (_which, gone) => {
    const [first] = gone as [number]
    const runs = [
      { first: 5, last: first - 1 },
      { first: first + 1, last: 50 },
    ]
    const plan = planFor(catalogOf(three(), runs), { full: 1 }, [])
    expect(stays(plan)).toEqual([ids[1], ids[2]])
    expect(plan.backups.map(({ reason }) => reason)).toEqual([
      'beyond the newest 1',
      'one of the newest 1',
      'lacks its WAL, so not counted',
    ])
    expect(plan.walBefore).toBe(20n)
    expect(plan.warnings).toEqual([
      `backup ${ids[2]} lacks its own WAL; it stays, and does not count as one of those that are kept`,
    ])
  })

  test('nothing goes where no backup can be recovered', () => {
    expect(kept(catalogOf(three(), []))).toEqual(ids)
  })

  test('as it is older than those that count, it goes', () => {
    expect(kept(catalogOf(three(), [{ first: 30, last: 40 }]))).toEqual([ids[2]])
  })

  test('but with its WAL inside it does', () => {
    expect(kept(catalogOf(three({ standalone: true }), [{ first: 5, last: 25 }]))).toEqual([ids[2]])
  })

  test('nor does one whose timeline has lost its history', () => {
    const runs = [
      { first: 5, last: 25 },
      { timeline: 2, first: 25, last: 50 },
    ]
    const catalog = catalogOf(three({ timeline: 2 }), runs)
    expect(kept(catalog)).toEqual([ids[2]])
    delete catalog.wal[1]!.history
    expect(kept(catalog)).toEqual([ids[1], ids[2]])
    const standalone = { ...catalog, backups: three({ timeline: 2, standalone: true }) }
    expect(kept(standalone)).toEqual([ids[1], ids[2]])
  })

  test('one whose last segment is stored as the next timeline’s first does', () => {
    const runs = [
      { first: 5, last: 31 },
      { timeline: 2, first: 32, last: 50 },
    ]
    const catalog = catalogOf(three(), runs)
    const switchAt = (offset: bigint) => {
      const switchedAt = formatLsn(segmentStart(32n, SEGMENT) + offset)
      catalog.wal[1]!.history = [{ timeline: 1, switchedAt }]
    }
    expect(kept(catalog)).toEqual([ids[1], ids[2]])
    switchAt(0x5000n)
    expect(kept(catalog)).toEqual([ids[2]])
    // The way left the timeline before the backup had ended.
    switchAt(0x100n)
    expect(kept(catalog)).toEqual([ids[1], ids[2]])
  })
})

test('where segments of another size are in play, no WAL goes: the numbers would not compare', () => {
  const backups = [summary(idOf(1), { first: 4000, walSegmentBytes: MIB }), summary(idOf(2), { first: 250 })]
  const plan = planFor(catalogOf(backups, [{ first: 1, last: 260 }]), { full: 2 }, [])
  expect(plan.walBefore).toBeUndefined()
  expect(plan.warnings).toEqual([expect.stringContaining('another size')])
})

test('of several timelines all WAL before the oldest start goes, and none behind it', () => {
  const backups = [summary(idOf(1), { first: 100 }), summary(idOf(2), { first: 60, timeline: 2 })]
  const runs = [
    { first: 50, last: 120 },
    { timeline: 2, first: 40, last: 70 },
  ]
  const plan = planFor(catalogOf(backups, runs), { full: 2 }, [])
  expect(plan.wal).toEqual([
    { timeline: 1, first: name(50), last: name(59), segments: 10, storedBytes: 100, isShare: true },
    { timeline: 2, first: name(40, 2), last: name(59, 2), segments: 20, storedBytes: 200, isShare: true },
  ])
})

test.each([0, -1, Number.NaN])('a rule that keeps %d backups is refused', (full) => {
  expect(() => planFor(catalogOf(FOUR, []), { full }, [])).toThrow(RangeError)
})

describe('chains', () => {
  const [F1, F2] = [summary(idOf(1), { first: 10 }), summary(idOf(5), { first: 50 })]
  const onDay = (day: number, type: string, below: BackupSummary) =>
    increment(idOf(day).replace('full', type), below, { first: day * 10 })
  const I2 = onDay(2, 'incr', F1)
  const I3 = onDay(3, 'incr', I2)
  const D4 = onDay(4, 'diff', F1)
  const I6 = onDay(6, 'incr', F2)
  const ALL = [F1, I2, I3, D4, F2, I6]
  const runs = [{ first: 5, last: 70 }]
  const told = (backups: BackupSummary[], pins: string[] = [], full = 1, damaged: Catalog['damaged'] = []) =>
    planFor(
      { ...catalogOf(backups, runs), damaged },
      { full },
      pins.map((backup) => ({ backup, purpose: 'restore' })),
    )
  const reasons = (plan: RetentionPlan) =>
    Object.fromEntries(plan.backups.map(({ id, stays, reason }) => [id, stays ? reason : 'goes']))

  test('live with the full backups that they follow', () => {
    expect(stays(told(ALL))).toEqual([F2.id, I6.id])
    expect(told(ALL).walBefore).toBe(50n)
    expect(reasons(told(ALL, [], 2))).toEqual({
      [F1.id]: 'one of the newest 2',
      [I2.id]: 'follows one of the newest 2',
      [I3.id]: 'follows one of the newest 2',
      [D4.id]: 'follows one of the newest 2',
      [F2.id]: 'one of the newest 2',
      [I6.id]: 'follows one of the newest 2',
    })
  })

  test('what a backup that is being read builds upon stays, and the WAL from there on', () => {
    const plan = told(ALL, [I3.id])
    expect(reasons(plan)).toEqual({
      [F1.id]: `needed by ${I3.id}`,
      [I2.id]: `needed by ${I3.id}`,
      [I3.id]: 'in use: restore',
      [D4.id]: 'goes',
      [F2.id]: 'one of the newest 1',
      [I6.id]: 'follows one of the newest 1',
    })
    expect(plan.walBefore).toBe(10n)
    expect(inOrderOfRemoval(catalogOf(ALL, runs), plan).map(({ id }) => id)).toEqual([D4.id])
  })

  test('and what one builds upon that the store keeps', () => {
    const locks = new Map([[D4.id, new Date('2099-01-01T00:00:00Z')]])
    const plan = planFor(catalogOf(ALL, runs), { full: 1 }, [], locks)
    expect(stays(plan)).toEqual([F1.id, D4.id, F2.id, I6.id])
    expect(plan.backups[0]!.reason).toBe(`needed by ${D4.id}`)
  })

  test('a full backup that others were put together to lets them go, once nothing builds on them', () => {
    const I4 = onDay(4, 'incr', I3)
    const synth = summary(I3.id.replace('incr', 'synth'), {
      ...{ first: 30, consolidatedFrom: [F1.id, I2.id, I3.id] },
    })
    expect(stays(told([F1, I2, I3, synth]))).toEqual([synth.id])
    expect(stays(told([F1, I2, I3, synth, I4]))).toEqual([F1.id, I2.id, I3.id, synth.id, I4.id])
    expect(stays(told([F1, I2, I3, synth, onDay(4, 'incr', synth)]))).toEqual([synth.id, I4.id])
    expect(stays(told([F1, I2, I3, synth], [], 2))).toHaveLength(4)
  })

  test('a broken one is told of, is kept no longer than others, and makes nothing else go', () => {
    const plan = told([F1, I2, F2, onDay(6, 'incr', I3), onDay(7, 'incr', onDay(6, 'incr', I3))])
    expect(reasons(plan)).toEqual({
      [F1.id]: 'goes',
      [I2.id]: 'goes',
      [F2.id]: 'one of the newest 1',
      [I6.id]: 'its chain is broken',
      [idOf(7).replace('full', 'incr')]: 'its chain is broken',
    })
    expect(plan.warnings).toEqual(
      [I6.id, idOf(7).replace('full', 'incr')].map(
        (id) =>
          `backup ${id} builds upon ${I3.id}, which is missing, or not the backup that it was then; it stays, and cannot be recovered`,
      ),
    )
    expect(stays(told([F1, I3, F2]))).toEqual([F2.id])
    expect(stays(told([F1, D4, I3]))).toHaveLength(3)
  })

  test('one without its own WAL cannot be recovered, and what builds upon it can', () => {
    const plan = planFor(
      catalogOf(
        [F1, I2, I3],
        [
          { first: 5, last: 15 },
          { first: 25, last: 40 },
        ],
      ),
      { full: 1 },
      [],
    )
    expect(reasons(plan)[I2.id]).toBe('lacks its WAL')
    expect(reasons(plan)[I3.id]).toBe('follows one of the newest 1')
    expect(plan.warnings).toEqual([`backup ${I2.id} lacks its own WAL; it stays, and cannot be recovered`])
  })

  test('one that cannot be read may build upon anything older', () => {
    const lost = onDay(3, 'incr', F2).id
    const plan = told([F1, I2, D4, F2, I6], [], 1, [{ id: lost, reason: 'it is cut off' }])
    expect(stays(plan)).toEqual([F1.id, I2.id, F2.id, I6.id])
    expect(plan.backups[0]!.reason).toBe(`maybe needed by ${lost}`)
    expect(plan.warnings).toEqual([
      `backup ${lost} cannot be read (it is cut off); it stays, and so does all that it may build upon, and all WAL`,
    ])
  })

  test('are removed from their ends on', () => {
    const catalog = catalogOf(ALL, runs)
    const order = inOrderOfRemoval(catalog, planFor(catalog, { full: 1 }, []))
    expect(order.map(({ id }) => id)).toEqual([I3.id, I2.id, D4.id, F1.id])
  })
})

describe('of histories made up at random', () => {
  test('enough full backups stay, and what is held, with all their WAL and all that they build upon; nothing else; logical ones change nothing', () => {
    for (let seed = 1; seed <= 1000; seed++) checkHistory(seed)
  })
})

function checkHistory(seed: number): void {
  const { backups, runs, below } = randomHistory(seed)
  const catalog = catalogOf(backups, runs)
  const isDamaged = below(10) === 0
  if (isDamaged) catalog.damaged.push({ id: '20261001T000000Z-full', reason: 'damaged' })
  const full = 1 + below(6)
  const pins = backups.filter(() => below(8) === 0).map(({ id }) => ({ backup: id, purpose: 'restore' }))
  const locked = backups.filter(() => below(16) === 0).map(({ id }) => id)
  catalog.logical = Array.from({ length: below(6) }, (_, index) =>
    logicalSummary(`202611${10 + index}T130000Z-logical`),
  )
  // Of no moment for anything else.
  if (below(4) === 0) catalog.damaged.push({ id: '20261002T000000Z-logical', reason: 'damaged' })
  const logical = below(3) === 0 ? undefined : 1 + below(4)
  const heldDumps = catalog.logical.filter(() => below(6) === 0).map(({ id }) => id)
  const dumpPins = heldDumps.map((id) => ({ backup: id, purpose: 'copy' }))
  const before = JSON.stringify(catalog)

  const locks = new Map(locked.map((id) => [id, new Date()]))
  const plan = planFor(catalog, { full, logical }, [...pins, ...dumpPins], locks)

  const label = `seed ${seed}`
  const staying = backups.filter((_, index) => plan.backups[index]!.stays)
  expect(JSON.stringify(catalog), label).toBe(before)
  expect(
    plan.backups.map(({ id }) => id),
    label,
  ).toEqual(backups.map(({ id }) => id))
  const stored = new Set(runs.flatMap((run) => numbersIn(run).map((number) => `${run.timeline}/${number}`)))
  const usable = backups.filter(
    (backup) =>
      backup.type === 'full' &&
      numbersOf({ first: backup.start.walFile, last: backup.stop.walFile }).every((number) =>
        stored.has(`${backup.timeline}/${number}`),
      ),
  )
  // The newest that can be recovered, and whatever is newer than the oldest of those; what is held; what these build upon.
  const oldest = usable.at(-full)
  const recent = oldest ? backups.slice(backups.indexOf(oldest)) : backups
  const held = new Set([...pins.map(({ backup }) => backup), ...locked])
  const wanted = [...recent, ...backups.filter(({ id }) => held.has(id))]
  const needed = new Set(wanted.flatMap((backup) => chainOf(backups, backup).links))
  expect(staying, label).toEqual(backups.filter((backup) => needed.has(backup)))
  expect(staying.filter((backup) => usable.includes(backup)).length, label).toBeGreaterThanOrEqual(
    Math.min(full, usable.length),
  )
  const newest = catalog.logical.slice(logical === undefined ? 0 : -logical).map(({ id }) => id)
  expect(
    plan.logical.filter(({ stays }) => stays).map(({ id }) => id),
    label,
  ).toEqual(catalog.logical.map(({ id }) => id).filter((id) => newest.includes(id) || heldDumps.includes(id)))
  expectWholeAtEachRemoval(catalog, plan, label)

  if (isDamaged || backups.length === 0) {
    expect(plan.walBefore, label).toBeUndefined()
    expect(plan.wal, label).toEqual([])
    return
  }
  const starts = staying.map(({ start }) => segmentNumberOf(start.walFile, SEGMENT))
  const first = starts.reduce((least, start) => (start < least ? start : least))
  expect(plan.walBefore, label).toBe(first)
  const going = plan.wal.flatMap((run) => numbersOf(run).map((number) => `${run.timeline}/${number}`))
  const expected = runs.flatMap((run) =>
    numbersIn(run)
      .filter((number) => number < first)
      .map((number) => `${run.timeline}/${number}`),
  )
  expect(going.toSorted(), label).toEqual(expected.toSorted())
}

/** Wherever a run ends that removes one backup after the other, no chain is broken that was whole. */
function expectWholeAtEachRemoval(catalog: Catalog, plan: RetentionPlan, label: string): void {
  const missing = (of: readonly BackupSummary[], backup: BackupSummary) => chainOf(of, backup).missing
  let left = catalog.backups
  for (const removed of inOrderOfRemoval(catalog, plan)) {
    left = left.filter(({ id }) => id !== removed.id)
    for (const backup of left) expect(missing(left, backup), label).toBe(missing(catalog.backups, backup))
  }
  expect(left, label).toEqual(catalog.backups.filter((_, index) => plan.backups[index]!.stays))
}

const numbersIn = (run: { first: number; last: number }) =>
  numbersOf({ first: name(run.first), last: name(run.last) })

function numbersOf({ first, last }: { first: string; last: string }): bigint[] {
  const start = segmentNumberOf(first, SEGMENT)
  const count = Number(segmentNumberOf(last, SEGMENT) - start) + 1
  return Array.from({ length: count }, (_, index) => start + BigInt(index))
}

import { expect, test } from 'vitest'
import type { Catalog } from '../../src/catalog/catalog.ts'
import type { TimelineWal } from '../../src/catalog/wal-ranges.ts'
import { formatLsn } from '../../src/postgres/lsn.ts'
import { segmentName, segmentStart } from '../../src/postgres/wal-file.ts'
import { currentTimeline, endOf, stretchesOf } from '../../src/status/windows.ts'
import { increment, SEGMENT, summary } from '../catalog/stored.ts'
import { randomFrom } from '../random.ts'

const name = (number: number, timeline = 1) => segmentName(timeline, BigInt(number), SEGMENT)
const at = (number: number, offset = 0) => formatLsn(segmentStart(BigInt(number), SEGMENT) + BigInt(offset))

function wal(timeline: number, runs: [number, number][], history?: TimelineWal['history']): TimelineWal {
  const ranges = runs.map(([first, last]) => ({
    first: name(first, timeline),
    last: name(last, timeline),
    segments: last - first + 1,
    storedBytes: 1,
    firstStoredAt: '',
    newestStoredAt: '',
  }))
  return { timeline, ranges, hasHistory: history !== undefined, ...(history && { history }) }
}

const catalogOf = (timelines: TimelineWal[], backups: Catalog['backups']): Catalog => ({
  cluster: 'main',
  systemIdentifier: '7',
  walSegmentBytes: SEGMENT,
  backups,
  wal: timelines,
  logical: [],
  damaged: [],
})
const idOf = (day: number) => `202611${String(day).padStart(2, '0')}T120000Z-full`
const told = (catalog: Catalog) => {
  const { stretches, unusable } = stretchesOf(catalog)
  return {
    unusable,
    stretches: stretches.map(({ timeline, backups, end, cutBy }) => ({
      timeline,
      backups: backups.map(({ id }) => id),
      end: formatLsn(end),
      cutBy,
    })),
  }
}

test('backups whose WAL is one run share a window; a gap cuts it, and the next backup opens another', () => {
  const catalog = catalogOf(
    [
      wal(1, [
        [5, 29],
        [31, 50],
      ]),
    ],
    [summary(idOf(1), { first: 10 }), summary(idOf(2), { first: 20 }), summary(idOf(3), { first: 40 })],
  )
  expect(told(catalog)).toEqual({
    unusable: [],
    stretches: [
      { timeline: 1, backups: [idOf(1), idOf(2)], end: at(30), cutBy: name(30) },
      { timeline: 1, backups: [idOf(3)], end: at(51), cutBy: undefined },
    ],
  })
})

test('a backup whose own WAL is not all there cannot be recovered, a standalone one to its end', () => {
  const catalog = catalogOf(
    [
      wal(1, [
        [5, 10],
        [12, 20],
      ]),
    ],
    [summary(idOf(1), { first: 10, last: 12 }), summary(idOf(2), { first: 30, last: 31, standalone: true })],
  )
  expect(told(catalog)).toEqual({
    unusable: [{ id: idOf(1), missing: name(11) }],
    stretches: [{ timeline: 1, backups: [idOf(2)], end: at(31, 0x1000), cutBy: undefined }],
  })
})

test('each timeline has its own windows; those of a later one go through its ancestors', () => {
  const catalog = catalogOf(
    [wal(1, [[5, 25]]), wal(2, [[20, 40]], [{ timeline: 1, switchedAt: at(20, 0x5000) }])],
    [
      summary(idOf(1), { first: 10 }),
      summary(idOf(2), { first: 22 }),
      summary(idOf(3), { first: 30, timeline: 2 }),
    ],
  )
  expect(told(catalog).stretches).toEqual([
    { timeline: 1, backups: [idOf(1), idOf(2)], end: at(26), cutBy: undefined },
    // The second backup was taken on timeline 1 after the way to timeline 2 had left it.
    { timeline: 2, backups: [idOf(1), idOf(3)], end: at(41), cutBy: undefined },
  ])
  expect(currentTimeline(catalog, undefined)).toBe(2)
  expect(currentTimeline(catalog, 1)).toBe(1)
  expect(currentTimeline(catalogOf([wal(2, [], [])], []), undefined)).toBeUndefined()
})

test('a backup whose end only the next timeline has archived can be recovered', () => {
  const catalog = catalogOf(
    [wal(1, [[5, 19]]), wal(2, [[20, 22]], [{ timeline: 1, switchedAt: at(20, 0x5000) }])],
    [summary(idOf(1), { first: 19, last: 20 })],
  )
  expect(told(catalog)).toEqual({
    unusable: [],
    stretches: [{ timeline: 2, backups: [idOf(1)], end: at(23), cutBy: undefined }],
  })
})

test('a timeline whose history is lost leads nowhere, and its backups with it', () => {
  const backups = [
    summary(idOf(1), { first: 10 }),
    summary(idOf(2), { first: 30, timeline: 2, standalone: true }),
  ]
  const first = { timeline: 1, backups: [idOf(1)], end: at(26), cutBy: undefined }
  expect(told(catalogOf([wal(1, [[5, 25]]), wal(2, [[20, 40]])], backups))).toEqual({
    unusable: [{ id: idOf(2), missing: '00000002.history' }],
    stretches: [first],
  })
  const third = wal(
    3,
    [[41, 50]],
    [
      { timeline: 1, switchedAt: at(20) },
      { timeline: 2, switchedAt: at(41) },
    ],
  )
  // The third one's own history tells the way.
  expect(told(catalogOf([wal(1, [[5, 25]]), wal(2, [[20, 40]]), third], backups))).toEqual({
    unusable: [],
    stretches: [first, { timeline: 3, backups: [idOf(1), idOf(2)], end: at(51), cutBy: undefined }],
  })
})

test('a growing segment is no whole one: a backup that ends in it is not known to be complete', () => {
  const growing = { ...wal(1, [[5, 11]]), receiving: { segment: name(12), storedBytes: 1, storedAt: '' } }
  expect(told(catalogOf([growing], [summary(idOf(1), { first: 10, last: 12 })]))).toEqual({
    unusable: [{ id: idOf(1), missing: name(12) }],
    stretches: [],
  })
  expect(told(catalogOf([growing], [summary(idOf(1), { first: 10, last: 11 })]))).toEqual({
    unusable: [],
    stretches: [{ timeline: 1, backups: [idOf(1)], end: at(13), cutBy: undefined }],
  })
})

test('the end of the WAL is read from its last segments, over a switch too', () => {
  const catalog = catalogOf(
    [wal(1, [[5, 25]]), wal(2, [[20, 22]], [{ timeline: 1, switchedAt: at(20, 0x5000) }])],
    [summary(idOf(1), { first: 10 })],
  )
  const stretch = stretchesOf(catalog).stretches.at(-1)!
  expect(endOf(stretch, 2)).toEqual([{ timeline: 2, first: 21n, last: 22n }])
  expect(endOf(stretch, 5)).toEqual([
    { timeline: 1, first: 18n, last: 19n },
    { timeline: 2, first: 20n, last: 22n },
  ])
  expect(endOf(stretch, 99)).toEqual(stretch.legs)
})

test('a backup whose chain is broken opens no window; one whose chain is whole does', () => {
  const full = summary(idOf(1), { first: 10 })
  const first = increment('20261102T120000Z-incr', full, { first: 20 })
  const second = increment('20261103T120000Z-incr', first, { first: 30, standalone: true })
  const all = [wal(1, [[5, 40]])]
  const { stretches, unusable } = told(catalogOf(all, [full, first, second]))
  expect(stretches).toMatchObject([{ backups: [full.id, first.id, second.id] }])
  expect(unusable).toEqual([])
  expect(told(catalogOf(all, [first, second]))).toEqual({
    stretches: [],
    unusable: [first, second].map(({ id }) => ({ id, missing: full.id })),
  })
})

test('among many others, a backup leads where it leads when it is alone', () => {
  const random = randomFrom(11)
  const pick = (below: number) => Math.floor(random() * below)
  for (let round = 0; round < 150; round++) {
    const wals = Array.from({ length: 1 + pick(3) }, (_, index) => {
      const runs: [number, number][] = []
      for (let first = 1 + 8 * index + pick(4); runs.length <= pick(5); first = runs.at(-1)![1] + 2 + pick(2))
        runs.push([first, first + pick(9)])
      const switches = [8 + pick(4), 16 + pick(4)].slice(0, index)
      const history = switches.map((segment, at_) => ({
        timeline: at_ + 1,
        switchedAt: at(segment, pick(2) * 0x5000),
      }))
      return wal(index + 1, runs, index > 0 && pick(9) > 0 ? history : undefined)
    })
    if (pick(3) === 0) wals[0]!.receiving = { segment: name(10 + pick(20)), storedBytes: 1, storedAt: '' }
    const backups = Array.from({ length: 12 }, (_, index) => {
      const first = 1 + pick(30)
      const timeline = 1 + pick(wals.length)
      return summary(idOf(index + 1), { first, last: first + pick(3), timeline, standalone: pick(4) === 0 })
    })
    // No two of one timeline end at the same place.
    const apart = [...new Map(backups.map((backup) => [backup.stop.lsn, backup])).values()]
    const { stretches, unusable } = stretchesOf(catalogOf(wals, apart))
    for (const backup of apart) {
      const alone = stretchesOf(catalogOf(wals, [backup]))
      const own = stretches.filter((stretch) => stretch.backups.includes(backup))
      const ways = (those: typeof own) => those.map(({ timeline, end, cutBy }) => ({ timeline, end, cutBy }))
      expect(ways(own)).toEqual(ways(alone.stretches))
      for (const { timeline, backups: through, legs } of own)
        if (through.at(-1) === backup)
          expect(legs).toEqual(alone.stretches.find((stretch) => stretch.timeline === timeline)!.legs)
      expect(unusable.filter(({ id }) => id === backup.id)).toEqual(alone.unusable)
    }
  }
})

import { beforeEach, describe, expect, test } from 'vitest'
import { archivedWal } from '../../src/catalog/archived-wal.ts'
import { droppedKey, receivingKey, walKey } from '../../src/catalog/layout.ts'
import { droppedAtEnd, type TimelineWal, walGaps } from '../../src/catalog/wal-ranges.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { encodeWalFile } from '../../src/wal/stored-file.ts'
import { randomFrom } from '../random.ts'
import { CountingStorage } from './counting-storage.ts'
import { range, SEGMENT, storeWal } from './stored.ts'

const name = (number: number, timeline = 1) => segmentName(timeline, BigInt(number), SEGMENT)
const key = (number: number, timeline = 1) => walKey('main', name(number, timeline))
const sealedKey = (number: number) => walKey('main', name(number), 'sealed')

let storage: CountingStorage
beforeEach(() => {
  storage = new CountingStorage()
})
const look = (wal?: readonly TimelineWal[], turn = 0) =>
  archivedWal({ storage, cluster: 'main', segmentBytes: SEGMENT }, wal && { wal, turn })
const runs = (wal: readonly TimelineWal[]) =>
  wal.map(({ ranges }) => ranges.map(({ first, last }) => [first, last]))
/** What a second look finds that lists everything is the truth. */
async function lookAgain(known: readonly TimelineWal[]): Promise<{ wal: TimelineWal[] }> {
  storage.forget()
  const wal = await look(known)
  expect(wal).toEqual(await look())
  return { wal }
}
const note = (droppedAt: string, reason = 'too much was waiting') =>
  Buffer.from(JSON.stringify({ format: 1, segment: 'x', droppedAt, reason }))
const history = (text: string) => encodeWalFile(Buffer.from(text), 1).object

describe('a look lists only what is new', () => {
  test('and a part in turn: of 200,000 segments some thousand', async () => {
    await storeWal(storage, range(1, 200_000), { bytes: 1 })
    const known = await look()
    expect(storage.listed).toBe(200_000)
    storage.forget()
    expect(await look(known)).toEqual(known)
    // The first of all, those in turn, whose first one is known by then, and the first behind them.
    expect(storage.listed).toBe(1 + 4096)
    expect(storage.stats).toBe(1)

    await storeWal(storage, [200_001, 200_002], { bytes: 1 })
    storage.forget()
    const [wal] = await look(known)
    expect(wal!.ranges).toMatchObject([
      { first: name(1), last: name(200_002), segments: 200_002, storedBytes: 200_002 },
    ])
    expect(storage.listed).toBe(1 + 4096 + 2)
  })

  test('so that what somebody took out of the middle is found by as many looks as there are parts', async () => {
    await storeWal(storage, [...range(1, 9000), ...range(9002, 20_000)], { bytes: 1 })
    let known = await look()
    await storage.remove(key(13_000))
    const gapsAt: number[] = []
    for (let turn = 0; turn < 5; turn++) {
      known = await look(known, turn)
      gapsAt.push(walGaps(known, SEGMENT).length)
    }
    // It is in the fourth part, of 4096 each.
    expect(gapsAt).toEqual([1, 1, 1, 2, 2])
    expect(known).toEqual(await look())
  })

  test('of many runs, those that nothing came between are believed, whatever became of the others', async () => {
    await storeWal(
      storage,
      range(1, 3000).filter((number) => number % 3 !== 0),
    )
    const known = await look()
    expect(walGaps(known, SEGMENT)).toHaveLength(999)
    await storeWal(storage, [300, 3000])
    await storage.put(droppedKey('main', name(600)), note('2026-11-20T12:00:00Z'))
    await storage.remove(key(901))
    const { wal } = await lookAgain(known)
    expect(walGaps(wal, SEGMENT)).toHaveLength(999 - 1)
  })

  test('before, between and behind the runs, and new timelines', async () => {
    await storeWal(storage, [...range(10, 19), ...range(30, 39), ...range(50, 59)])
    const known = await look()
    await storeWal(storage, [8, 25, 62])
    await storeWal(storage, [60, 61], { timeline: 2 })
    await storage.put(walKey('main', '00000002.history'), history('1\t0/3C000100\tpromoted\n'))
    const { wal } = await lookAgain(known)
    expect(runs(wal)).toEqual([
      [
        [name(8), name(8)],
        [name(10), name(19)],
        [name(25), name(25)],
        [name(30), name(39)],
        [name(50), name(59)],
        [name(62), name(62)],
      ],
      [[name(60, 2), name(61, 2)]],
    ])
  })

  test('what a crowd stored out of order becomes whole', async () => {
    await storeWal(storage, range(1, 9))
    await storeWal(storage, [11, 14])
    const known = await look()
    expect(walGaps(known, SEGMENT)).toHaveLength(2)
    await storeWal(storage, [10, 13, 12])
    const { wal } = await lookAgain(known)
    expect(runs(wal)).toEqual([[[name(1), name(14)]]])
    expect(wal[0]!.ranges[0]).toMatchObject({ segments: 14, storedBytes: 140 })
  })

  test('also what came first of all, when a younger one was seen before it', async () => {
    await storeWal(storage, [3])
    const known = await look()
    await storeWal(storage, [2, 1])
    expect(runs((await lookAgain(known)).wal)).toEqual([[[name(1), name(3)]]])
  })
})

describe('what is gone is noticed', () => {
  test.each([
    ['beginning', 6002],
    ['end', 20_000],
  ])('at the %s of a run whose turn it is not', async (_where, gone) => {
    await storeWal(storage, [...range(1, 6000), ...range(6002, 20_000)], { bytes: 1 })
    const known = await look()
    await storage.remove(key(gone))
    await lookAgain(known)
  })

  test.each([
    ['the beginning', range(10, 14)],
    ['the end', range(25, 29)],
    ['both ends', [10, 29]],
    ['all of it', range(10, 29)],
  ])('at %s of a run', async (_where, gone) => {
    await storeWal(storage, [...range(1, 5), ...range(10, 29), ...range(40, 45)])
    const known = await look()
    for (const number of gone) await storage.remove(key(number))
    await lookAgain(known)
  })

  test('with a whole timeline', async () => {
    await storeWal(storage, range(1, 5))
    await storeWal(storage, range(5, 9), { timeline: 2 })
    const known = await look()
    for (const number of range(1, 5)) await storage.remove(key(number))
    expect((await lookAgain(known)).wal.map(({ timeline }) => timeline)).toEqual([2])
  })

  test('whatever is stored and removed at the ends, a look finds what a whole listing does', async () => {
    const random = randomFrom(7)
    const pick = (below: number) => Math.floor(random() * below)
    const there = new Set<number>()
    let known: TimelineWal[] = []
    for (let round = 0; round < 300; round++) {
      for (let more = pick(6); more > 0; more--) {
        const number = 1 + pick(60)
        if (random() < 0.2) await storage.put(droppedKey('main', name(number)), note('2026-11-20T12:00:00Z'))
        // What is stored is never replaced.
        else if (!(await storage.stat(key(number))) && !(await storage.stat(sealedKey(number)))) {
          await storage.put(random() < 0.5 ? key(number) : sealedKey(number), Buffer.alloc(10))
          there.add(number)
        }
      }
      // Only whole ends go: what somebody takes out of the middle is for a whole listing to find.
      const ends = known.flatMap(({ ranges }) => ranges.flatMap(({ first, last }) => [first, last]))
      const end = ends[pick(ends.length)]
      for (const form of ['plain', 'sealed'] as const)
        if (end !== undefined && round % 2 === 0) await storage.remove(walKey('main', end, form))
      known = (await lookAgain(known)).wal
    }
    expect(there.size).toBeGreaterThan(50)
  })
})

describe('an archive that is encrypted from some segment on', () => {
  const storeSealed = async (numbers: number[]) => {
    for (const number of numbers) await storage.put(sealedKey(number), Buffer.alloc(10))
  }

  test('is one run, of which the ends are looked at', async () => {
    await storeWal(storage, range(1, 4))
    await storeSealed(range(5, 9))
    const known = await look()
    expect(runs(known)).toEqual([[[name(1), name(9)]]])
    storage.forget()
    expect(await look(known)).toEqual(known)
    // Its own end is looked for in the form that its begin has, and then in the other.
    expect(storage.stats).toBe(2)
    await storage.remove(sealedKey(9))
    expect(runs((await lookAgain(known)).wal)).toEqual([[[name(1), name(8)]]])
  })

  test('counts a segment once that two hosts have stored in both forms', async () => {
    await storeWal(storage, range(1, 4))
    await storeSealed(range(1, 6))
    const known = await look()
    expect(known[0]!.ranges).toMatchObject([{ first: name(1), last: name(6), segments: 6 }])
    await storeSealed([7])
    await storeWal(storage, [7])
    const { wal } = await lookAgain(known)
    expect(wal[0]!.ranges).toMatchObject([{ first: name(1), last: name(7), segments: 7 }])
    await storage.remove(key(1))
    expect((await lookAgain(wal)).wal[0]!.ranges).toMatchObject([{ segments: 7 }])
  })
})

describe('WAL that was given up', () => {
  test('explains the gap: since when, and why', async () => {
    await storeWal(storage, [...range(1, 4), ...range(8, 9)])
    await storage.put(droppedKey('main', name(5)), note('2026-11-20T12:00:00Z'))
    await storage.put(droppedKey('main', name(6)), note('2026-11-20T12:00:09Z', 'still too much'))
    const known = await look()
    const dropped = {
      first: name(5),
      last: name(6),
      segments: 2,
      since: '2026-11-20T12:00:00.000Z',
      until: '2026-11-20T12:00:09.000Z',
      reason: 'too much was waiting',
    }
    expect(walGaps(known, SEGMENT)).toEqual([
      { timeline: 1, first: name(5), last: name(7), segments: 3, dropped: [dropped] },
    ])
    storage.forget()
    expect(await look(known)).toEqual(known)
    // Each note is read once.
    expect(storage.reads).toEqual([])
  })

  test('is forgotten when the segment arrives after all', async () => {
    await storeWal(storage, [...range(1, 4), ...range(8, 9)])
    for (const number of [5, 6, 7])
      await storage.put(droppedKey('main', name(number)), note('2026-11-20T12:00:00Z'))
    const known = await look()
    await storeWal(storage, [6, 7])
    const { wal } = await lookAgain(known)
    expect(wal[0]!.dropped).toMatchObject([{ first: name(5), last: name(5), segments: 1 }])
    await storeWal(storage, [5])
    expect((await lookAgain(wal)).wal[0]).not.toHaveProperty('dropped')
  })

  test('at the end is told too, even by a note that cannot be read', async () => {
    await storeWal(storage, range(1, 4))
    await storage.put(droppedKey('main', name(5)), Buffer.from('{'))
    const [wal] = await look()
    expect(droppedAtEnd(wal!)).toMatchObject([{ first: name(5), reason: 'its note cannot be read' }])
    expect(wal!.ranges).toHaveLength(1)
  })
})

describe('a segment that is being received', () => {
  const receive = (number: number) => storage.put(receivingKey('main', name(number)), Buffer.alloc(7))

  test('extends the last run, until it is whole', async () => {
    await storeWal(storage, range(1, 4))
    await receive(5)
    const known = await look()
    expect(known[0]).toMatchObject({
      receiving: { segment: name(5), storedBytes: 7 },
      ranges: [{ last: name(4) }],
    })
    await storeWal(storage, [5])
    expect((await lookAgain(known)).wal[0]).not.toHaveProperty('receiving')
  })

  test.each([1, 3, 4])('counts for nothing where a newer whole one is stored: %d', async (number) => {
    await storeWal(storage, [1, 2, 4])
    await receive(number)
    expect((await look())[0]).not.toHaveProperty('receiving')
  })

  test('behind a hole shows that there is one', async () => {
    await storeWal(storage, range(1, 4))
    await storage.put(droppedKey('main', name(6)), note('2026-11-20T12:00:00Z'))
    await receive(8)
    const known = await look()
    expect(known[0]).toMatchObject({ receiving: { segment: name(8) }, ranges: [{ last: name(4) }] })
    expect(walGaps(known, SEGMENT)).toMatchObject([
      { first: name(5), last: name(7), segments: 3, dropped: [{ first: name(6) }] },
    ])
    expect(droppedAtEnd(known[0]!)).toEqual([])
    await receive(5)
    await storage.remove(receivingKey('main', name(8)))
    const { wal } = await lookAgain(known)
    expect(wal[0]).toMatchObject({ receiving: { segment: name(5) } })
    expect(walGaps(wal, SEGMENT)).toEqual([])
    expect(droppedAtEnd(wal[0]!)).toMatchObject([{ first: name(6) }])
  })
})

describe('a history', () => {
  test('tells the way to a timeline, and is read once', async () => {
    await storeWal(storage, [9], { timeline: 3 })
    await storage.put(walKey('main', '00000003.history'), history('1\t0/5000000\tx\n2\t0/8000100\tx\n'))
    const known = await look()
    expect(known[0]).toMatchObject({
      hasHistory: true,
      history: [
        { timeline: 1, switchedAt: '0/5000000' },
        { timeline: 2, switchedAt: '0/8000100' },
      ],
    })
    storage.forget()
    expect(await look(known)).toEqual(known)
    expect(storage.reads).toEqual([])
    await storage.remove(walKey('main', '00000003.history'))
    expect((await lookAgain(known)).wal[0]).toMatchObject({ hasHistory: false })
  })

  test('that cannot be read is there all the same', async () => {
    await storage.put(walKey('main', '00000002.history'), Buffer.from('nonsense'))
    expect(await look()).toEqual([{ timeline: 2, ranges: [], hasHistory: true }])
  })
})

import { describe, expect, test } from 'vitest'
import { walKey } from '../../src/catalog/layout.ts'
import {
  type CopyPlan,
  type CopyRequest,
  planCopy,
  type StoredBackups,
  type StoredWal,
} from '../../src/copy/plan.ts'
import { parseWalFile, segmentName } from '../../src/postgres/wal-file.ts'
import { increment, range, SEGMENT, summary } from '../catalog/stored.ts'

const OLD = summary('20260101T000000Z-full', { first: 10, last: 11 })
const NEW = summary('20260102T000000Z-full', { first: 20, last: 21 })
const ALL: CopyRequest = { ids: [], backups: true, wal: true }

const nameOf = (number: number, timeline = 1) => segmentName(timeline, BigInt(number), SEGMENT)
const stored = (name: string): StoredWal => ({
  file: parseWalFile(name)!,
  key: walKey('main', name),
  form: 'plain',
  bytes: 10,
})
const segments = (first: number, last: number, timeline = 1) =>
  range(first, last).map((number) => nameOf(number, timeline))

interface Situation {
  source?: StoredBackups['backups']
  destination?: StoredBackups['backups']
  logical?: StoredBackups['logical']
  logicalThere?: StoredBackups['logical']
  damaged?: StoredBackups['damaged']
  damagedThere?: StoredBackups['damaged']
  held?: string[]
  missing?: string[]
  common?: string[]
  timelines?: StoredBackups['timelines']
  timelinesThere?: StoredBackups['timelines']
}

function plan(situation: Situation, request: Partial<CopyRequest> = {}): CopyPlan {
  const { source = [OLD, NEW], destination = [], held = [], missing = [], common = [] } = situation
  return planCopy(
    {
      repository: 'local',
      backups: source,
      logical: situation.logical ?? [],
      damaged: situation.damaged ?? [],
      timelines: situation.timelines ?? [],
    },
    {
      repository: 'offsite',
      backups: destination,
      logical: situation.logicalThere ?? [],
      damaged: situation.damagedThere ?? [],
      timelines: situation.timelinesThere ?? [],
    },
    { held: new Set(held), missing: missing.map(stored), common: common.map(stored) },
    SEGMENT,
    { ...ALL, ...request },
  )
}

const told = ({ steps }: CopyPlan) =>
  steps.map((step) => (step.kind === 'wal' ? step.files.map(({ file }) => file.name) : step.backup.id))
const verdicts = ({ backups }: CopyPlan) => backups.map(({ verdict, backup }) => [backup.id, verdict])

describe('the order', () => {
  test('has the WAL of each backup before it, and all from the oldest on', () => {
    expect(told(plan({ missing: segments(8, 25) }))).toEqual([
      segments(10, 11),
      OLD.id,
      segments(12, 21),
      NEW.id,
      segments(22, 25),
    ])
  })

  test('has histories before anything, and what lies beside a segment with it', () => {
    const label = `${nameOf(10)}.00000028.backup`
    const partial = `${nameOf(12)}.partial`
    const missing = [...segments(10, 11), label, partial, '00000002.history', ...segments(12, 12, 2)]
    expect(told(plan({ source: [OLD], missing }))).toEqual([
      ['00000002.history', nameOf(10), label, nameOf(11)],
      OLD.id,
      [partial, nameOf(12, 2)],
    ])
  })

  test('goes by the end of a backup, on whichever timeline', () => {
    const other = summary('20251231T000000Z-full', { first: 9, last: 15, timeline: 2 })
    const missing = [...segments(9, 15), ...segments(9, 15, 2)]
    const steps = told(plan({ source: [other, OLD], missing }))
    expect(steps.filter((step) => typeof step === 'string')).toEqual([OLD.id, other.id])
  })
})

describe('WAL', () => {
  test('begins with the oldest backup that the destination has or will have', () => {
    const missing = segments(8, 25)
    expect(plan({ destination: [OLD], missing }, { ids: [NEW.id] }).wal.map(({ file }) => file.name)).toEqual(
      segments(10, 25),
    )
    expect(plan({ missing }, { ids: ['latest'] }).wal.map(({ file }) => file.name)).toEqual(segments(20, 25))
  })

  test('alone fills holes, and is of no use without a backup', () => {
    const missing = [...segments(12, 13), ...segments(16, 16)]
    const alone = { backups: false }
    expect(told(plan({ destination: [OLD], missing }, alone))).toEqual([[...segments(12, 13), nameOf(16)]])
    expect(told(plan({ missing }, alone))).toEqual([])
  })

  test('is compared where it is gone on with, timeline by timeline', () => {
    const common = [nameOf(15), nameOf(15, 2)]
    const { common: compared } = plan({ destination: [OLD, NEW], common, missing: segments(22, 22) })
    expect(compared.map(({ file }) => file.name)).toEqual([nameOf(15)])
  })
})

describe('a backup', () => {
  test('that is there is not copied again', () => {
    const all = plan({ destination: [OLD, NEW], held: segments(10, 25) })
    expect(verdicts(all)).toEqual([
      [OLD.id, 'there'],
      [NEW.id, 'there'],
    ])
    expect(all.steps).toEqual([])
  })

  test('whose own WAL is nowhere is left, and the others are copied', () => {
    const result = plan({ missing: [nameOf(10), ...segments(12, 25)] })
    expect(verdicts(result)).toEqual([
      [OLD.id, 'left'],
      [NEW.id, 'copy'],
    ])
    expect(result.warnings).toEqual([
      `backup ${OLD.id} is not copied: ${nameOf(11)}, which it needs, is archived in neither repository`,
    ])
  })

  test.each([
    ['its WAL inside', { ...OLD, standalone: true }, [] as string[]],
    ['some of its WAL in each', OLD, [nameOf(10)]],
    ['its last segment on the next timeline', OLD, [nameOf(10), nameOf(11, 2)]],
  ])('with %s is copied', (what, backup, held) => {
    const missing = what.startsWith('some') ? [nameOf(11)] : []
    expect(verdicts(plan({ source: [backup], held, missing }))).toEqual([[OLD.id, 'copy']])
  })

  test('alone is copied with a warning where its WAL is not there', () => {
    const result = plan({ source: [OLD], missing: segments(10, 25) }, { wal: false })
    expect(told(result)).toEqual([OLD.id])
    expect(result.warnings).toEqual([
      `backup ${OLD.id} cannot be restored from there until its WAL is copied too: ${nameOf(10)} is not there`,
    ])
    expect(plan({ source: [OLD], held: segments(10, 11) }, { wal: false }).warnings).toEqual([])
  })

  test('whose record cannot be read, in either, is left', () => {
    const damaged = [{ id: '20260103T000000Z-full', reason: 'it is damaged' }]
    const missing = segments(8, 25)
    expect(verdicts(plan({ damaged, missing })).at(-1)).toEqual(['20260103T000000Z-full', 'left'])
    expect(verdicts(plan({ damagedThere: [{ id: OLD.id, reason: 'it is damaged' }], missing }))[0]).toEqual([
      OLD.id,
      'left',
    ])
    expect(() => plan({ damaged, missing }, { ids: ['20260103T000000Z-full'] })).toThrow('it is damaged')
  })

  test('is asked for by its id once, or is not there', () => {
    const missing = segments(8, 25)
    expect(verdicts(plan({ missing }, { ids: ['latest', NEW.id] }))).toEqual([[NEW.id, 'copy']])
    expect(() => plan({ missing }, { ids: ['20200101T000000Z-full'] })).toThrow(
      'there is no backup "20200101T000000Z-full" in repository "local"',
    )
    expect(() => plan({ source: [] }, { ids: ['latest'] })).toThrow(
      'there is no backup in repository "local"',
    )
  })

  test('of the same id that is another one is a conflict', () => {
    const other = { ...OLD, stop: { ...OLD.stop, lsn: '7/7' } }
    expect(() => plan({ destination: [other], missing: segments(8, 25) })).toThrow(
      `backup ${OLD.id} in repository "offsite" is not the one in "local"`,
    )
  })
})

describe('a backup that builds upon others', () => {
  const MIDDLE = increment('20260103T000000Z-incr', NEW, { first: 23 })
  const LAST = increment('20260104T000000Z-incr', MIDDLE, { first: 24 })
  const source = [OLD, NEW, MIDDLE, LAST]
  const missing = segments(8, 25)
  const ids = [LAST.id]

  test('is copied after them, and asks for them', () => {
    const result = plan({ source, missing }, { ids })
    expect(told(result)).toEqual([
      segments(20, 21),
      NEW.id,
      segments(22, 23),
      MIDDLE.id,
      segments(24, 24),
      LAST.id,
      segments(25, 25),
    ])
    expect(result.backups).toEqual([
      { verdict: 'copy', backup: NEW, neededBy: LAST.id },
      { verdict: 'copy', backup: MIDDLE, neededBy: LAST.id },
      { verdict: 'copy', backup: LAST },
    ])
    expect(plan({ source, missing }).backups).toEqual(source.map((backup) => ({ verdict: 'copy', backup })))
  })

  test('comes after them though all of their WAL is in one segment, and the clock was set back', () => {
    const first = summary('20260109T000000Z-full', { first: 20 })
    const second = increment('20260108T000000Z-incr', first, { first: 20 })
    const third = increment('20260107T000000Z-incr', second, { first: 20 })
    const steps = told(plan({ source: [third, second, first], missing }))
    expect(steps.filter((step) => typeof step === 'string')).toEqual([first.id, second.id, third.id])
  })

  test('may build upon what only the destination has left', () => {
    const result = plan({ source: [MIDDLE, LAST], destination: [NEW], missing }, { ids })
    expect(verdicts(result)).toEqual([
      [MIDDLE.id, 'copy'],
      [LAST.id, 'copy'],
    ])
    const there = plan({ source, destination: [NEW, MIDDLE], missing }, { ids })
    expect(verdicts(there)).toEqual([
      [NEW.id, 'there'],
      [MIDDLE.id, 'there'],
      [LAST.id, 'copy'],
    ])
  })

  test('is left where a link is in neither repository, or is another backup', () => {
    const reason = (id: string) =>
      `it builds upon ${id}, which is missing, or not the backup that it was then`
    const result = plan({ source: [OLD, MIDDLE, LAST], missing })
    expect(result.backups.slice(1)).toEqual([
      { verdict: 'left', backup: MIDDLE, reason: reason(NEW.id) },
      { verdict: 'left', backup: LAST, reason: reason(NEW.id) },
    ])
    const other = { ...NEW, start: { ...NEW.start, lsn: '7/7' } }
    expect(plan({ source: [MIDDLE], destination: [other], missing }).backups).toEqual([
      { verdict: 'left', backup: MIDDLE, reason: reason(NEW.id) },
    ])
    expect(told(result)).toContain(OLD.id)
    expect(told(result)).not.toContain(MIDDLE.id)
  })

  test('is refused where the destination has another backup in the place of a link', () => {
    const other = { ...NEW, start: { ...NEW.start, lsn: '7/7' } }
    expect(() => plan({ source, destination: [other], missing }, { ids })).toThrow(
      `backup ${NEW.id} in repository "offsite" is not the one in "local"`,
    )
  })

  test('is left with the link that cannot be copied', () => {
    const result = plan({ source, missing: missing.filter((name) => name !== nameOf(23)) })
    expect(result.backups.slice(2)).toEqual([
      { verdict: 'left', backup: MIDDLE, reason: expect.stringContaining(nameOf(23)) },
      { verdict: 'left', backup: LAST, reason: `it builds upon ${MIDDLE.id}, which cannot be copied` },
    ])
  })
})

describe('WAL that retention has let go', () => {
  const thinned = [{ timeline: 1, thinnedBefore: nameOf(20) }]

  test('there is not brought back, but for what makes backups consistent', () => {
    const [label, stray] = [`${nameOf(10)}.00000028.backup`, `${nameOf(12)}.00000028.backup`]
    const missing = [...segments(8, 25), label, stray]
    const { wal, steps } = plan({ destination: [OLD, NEW], timelinesThere: thinned, missing })
    expect(wal.map(({ file }) => file.name)).toEqual([nameOf(10), label, nameOf(11), ...segments(20, 25)])
    expect(steps).toHaveLength(1)
  })

  test('here is noted there, as soon as a backup is brought that has no more', () => {
    const missing = [...segments(10, 11), ...segments(20, 25)]
    const note = [{ timeline: 1, before: nameOf(20) }]
    expect(plan({ timelines: thinned, missing }).thinned).toEqual(note)
    expect(plan({ timelines: thinned, missing, destination: [OLD] }).thinned).toEqual([])
    expect(plan({ timelines: thinned, missing }, { wal: false }).thinned).toEqual([])
  })

  test('here is noted there only as far as the WAL there is that of backups: of the rest, what is missing is lost', () => {
    const noteWith = (held: string[], timelinesThere: StoredBackups['timelines'] = []) =>
      plan({ timelines: thinned, missing: segments(10, 11), held, timelinesThere }).thinned
    expect(noteWith(segments(0, 9))).toEqual([])
    expect(noteWith([...segments(10, 11), ...segments(12, 18, 2), `${nameOf(13)}.partial`])).toEqual([
      { timeline: 1, before: nameOf(20) },
    ])
    expect(noteWith(segments(10, 25).reverse())).toEqual([{ timeline: 1, before: nameOf(12) }])
    // What was noted there before stays noted; what is left of that tells nothing.
    const before = [{ timeline: 1, thinnedBefore: nameOf(15) }]
    expect(noteWith([nameOf(8), ...segments(20, 25)], before)).toEqual([{ timeline: 1, before: nameOf(20) }])
  })
})

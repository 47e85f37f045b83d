import { describe, expect, test } from 'vitest'
import type { Catalog } from '../../src/catalog/catalog.ts'
import { ticksOf } from '../../src/report/axis.ts'
import { Clock } from '../../src/report/clock.ts'
import { forecastOf } from '../../src/report/forecast.ts'
import { growthOf } from '../../src/report/growth.ts'
import { historyOf, type TimelineRow } from '../../src/report/history.ts'
import { reportPage } from '../../src/report/page.ts'
import { spansOfCatalog } from '../../src/report/recoverable.ts'
import { timelineText } from '../../src/report/timeline-text.ts'
import { DAY, GIB, MadeUpCluster, weeks } from './sample.ts'
import { clusterOf, eventful } from './sample-report.ts'

const BERLIN = new Clock('Europe/Berlin')
const HOUR = DAY / 24
const at = (iso: string) => Date.parse(iso)

function historyIn(catalog: Catalog, now: Date) {
  const { spans, unusable } = spansOfCatalog(catalog)
  return historyOf(catalog, spans, unusable, now.getTime())
}

describe('what a repository has gone through', () => {
  const { catalog, now } = eventful()
  const history = historyIn(catalog, now)
  const kindsOf = ({ spans }: TimelineRow) => spans.map(({ kind }) => kind)

  test('each timeline has its windows, what is lost, and the way that leads to it', () => {
    expect(history.timelines.map(kindsOf)).toEqual([
      ['window', 'gap', 'window'],
      ['shared', 'gap', 'shared', 'window', 'gap', 'window'],
      ['shared', 'gap', 'shared', 'gap', 'shared', 'window'],
    ])
    const [lost] = history.timelines[0]!.spans.filter(({ kind }) => kind === 'gap')
    // From when WAL got lost to the end of the next backup.
    expect(new Date(lost!.from).toISOString()).toMatch(/^2026-10-14T00:3/)
    expect(new Date(lost!.to).toISOString()).toMatch(/^2026-10-15T00:3/)
  })

  test('a recovery to an earlier moment is told by both clocks', () => {
    const [first, second] = history.timelines.slice(1).map(({ branch }) => branch!)
    expect([first!.from, second!.from]).toEqual([1, 2])
    expect(Math.round((first!.goesOnAt - first!.leftAt) / HOUR)).toBe(9)
    expect(Math.round((second!.goesOnAt - second!.leftAt) / HOUR)).toBe(30)
  })

  test('links lead to what a backup builds upon, also on another timeline; what lacks a link cannot be recovered', () => {
    const across = history.timelines[1]!.links.filter(({ lower }) => lower.timeline === 1)
    expect(across.map(({ upper }) => upper.kind)).toEqual(['diff'])
    const marks = history.timelines.flatMap((row) => row.marks)
    expect(marks.filter(({ isBroken }) => isBroken).map(({ id }) => id)).toEqual([
      '20261009T003000Z-incr',
      '20261010T003000Z-incr',
    ])
  })

  test('WAL that was let go on purpose is not lost', () => {
    const wal = catalog.wal.map((entry) => ({ ...entry, thinnedBefore: 'F'.repeat(24) }))
    const kinds = historyIn({ ...catalog, wal }, now).timelines.flatMap(kindsOf)
    expect(kinds).toContain('between')
    expect(kinds).not.toContain('gap')
  })

  test('WAL that was copied long after it was written does not move what is recoverable', () => {
    const stored = now.toISOString()
    const wal = catalog.wal.map((entry) => ({
      ...entry,
      ranges: entry.ranges.map((run) => ({ ...run, firstStoredAt: stored, newestStoredAt: stored })),
    }))
    const [copied] = historyIn({ ...catalog, wal }, now).timelines
    const [, gap] = copied!.spans
    expect(gap!.kind).toBe('gap')
    expect(new Date(gap!.to).toISOString()).toMatch(/^2026-10-15T00:3/)
  })

  test('it is drawn in characters, no wider than the terminal', () => {
    const view = { color: false, width: 72, unicode: false }
    const lines = timelineText(history, BERLIN, view).split('\n')
    expect(lines.filter((line) => line.length > 72)).toEqual([])
    expect(lines.find((line) => line.startsWith('Timeline 1'))).toMatch(/^Timeline 1 {2}=+%=+$/)
    expect(lines.find((line) => line.startsWith('Timeline 2'))).toMatch(
      /^Timeline 2 {2}-+[!%]+-+\\=+[!%]+=+$/,
    )
    expect(lines.join('\n')).toMatch(/lost: WAL is missing[\s\S]*x cannot be recovered/)
    expect(timelineText(history, BERLIN, { ...view, color: true })).toContain('\u001b[31m%')
  })
})

describe('what retention will remove', () => {
  const cluster = new MadeUpCluster('main', new Date('2026-09-01T00:30:00Z'), GIB)
  weeks(cluster, 6)
  const catalog = cluster.catalog()
  const situation = { now: new Date(cluster.now - 4 * HOUR), readers: [] }
  const full = (count: number, pinned: { backup: string; reason: string }[] = []) =>
    forecastOf(catalog, { full: count, timeZone: 'Europe/Berlin' }, { ...situation, pinned }, BERLIN)

  test('by the number of full backups, each goes when a new one has come', () => {
    const { removals, rhythm, left } = full(6)
    expect(rhythm.map(({ kind, everyMs }) => [kind, everyMs / DAY])).toEqual([
      ['full', 7],
      ['diff', 7],
      ['incr', 1],
      ['logical', 7],
    ])
    const going = removals.map(({ at: moment, backups }) => [
      BERLIN.day(moment),
      backups.length,
      backups[0]!.id,
    ])
    expect(going).toEqual([
      ['2026-10-14', 7, '20260901T003000Z-full'],
      ['2026-10-21', 7, '20260908T003000Z-full'],
      ['2026-10-28', 7, '20260915T003000Z-full'],
      ['2026-11-04', 7, '20260922T003000Z-full'],
    ])
    expect(left).toBe(42 + 6 - 28)
  })

  test('what goes with the next run is told as such, and what is pinned stays', () => {
    const { removals } = full(5)
    expect(removals[0]).toMatchObject({ at: situation.now.getTime() })
    const pinned = full(5, [{ backup: '20260901T003000Z-full', reason: 'audit' }])
    expect(pinned.removals.flatMap(({ backups }) => backups.map(({ id }) => id))).not.toContain(
      '20260901T003000Z-full',
    )
  })

  test('without a rule nothing is told; where backups ended long ago none are reckoned with', () => {
    expect(forecastOf(catalog, {}, situation, BERLIN)).toMatchObject({
      removals: [],
      silent: expect.anything(),
    })
    const later = { ...situation, now: new Date(cluster.now + 60 * DAY) }
    expect(forecastOf(catalog, { full: 6 }, later, BERLIN)).toMatchObject({ rhythm: [], removals: [] })
  })
})

test('growth is told by periods of the time zone', () => {
  const cluster = new MadeUpCluster('main', new Date('2026-10-20T22:30:00Z'), GIB)
  weeks(cluster, 2)
  const { unit, periods } = growthOf(cluster.catalog(), cluster.now - HOUR, BERLIN)
  expect(unit).toBe('day')
  // 22:30 UTC is the next day in Berlin, until its clocks go back on the 25th.
  expect(BERLIN.day(periods[0]!.from)).toBe('2026-10-21')
  expect(periods[0]!.counts).toMatchObject({ full: 1, incr: 0 })
  expect(periods.find(({ from }) => BERLIN.day(from) === '2026-10-25')!.to - at('2026-10-24T22:00:00Z')).toBe(
    25 * HOUR,
  )
  // 120 segments of 16 MiB a day.
  expect(periods[5]!.walBytesPerDay! / (120 * 16 * 1024 ** 2)).toBeCloseTo(1, 1)
})

test('an axis has few marks, at round moments', () => {
  const texts = (from: string, to: string) =>
    ticksOf({ from: at(from), to: at(to) }, BERLIN).map(({ text }) => text)
  expect(texts('2026-10-24T20:00:00Z', '2026-10-25T12:00:00Z')).toEqual([
    '25 Oct',
    '03:00',
    '06:00',
    '09:00',
    '12:00',
  ])
  expect(texts('2026-11-01T12:00:00Z', '2026-11-20T12:00:00Z')).toEqual(['2 Nov', '9 Nov', '16 Nov'])
  expect(texts('2024-02-10T00:00:00Z', '2026-11-20T00:00:00Z')).toEqual([
    'Jul 2024',
    'Jan 2025',
    'Jul 2025',
    'Jan 2026',
    'Jul 2026',
  ])
})

test('the page of ten thousand backups is light', () => {
  const cluster = new MadeUpCluster('big', new Date('2025-09-01T00:00:00Z'), GIB, HOUR)
  for (let index = 0; index < 10_000; index++) {
    cluster.back(index % 168 === 0 ? 'full' : 'incr')
    cluster.wait(59 * 60_000, index % 500 !== 7)
  }
  const now = new Date(cluster.now)
  const page = reportPage({ now, version: '0', clusters: [clusterOf(cluster.catalog(), now, [], {})] })
  expect(page.length).toBeLessThan(1_000_000)
})

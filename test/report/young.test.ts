import { describe, expect, test } from 'vitest'
import { Clock } from '../../src/report/clock.ts'
import { growthOf } from '../../src/report/growth.ts'
import { historyOf } from '../../src/report/history.ts'
import { reportPage } from '../../src/report/page.ts'
import { spansOfCatalog } from '../../src/report/recoverable.ts'
import { timelineText } from '../../src/report/timeline-text.ts'
import { GIB, MadeUpCluster } from './sample.ts'
import { clusterOf } from './sample-report.ts'

const MINUTE = 60_000
const UTC = new Clock('UTC')

/** Ten minutes: a full and an incremental backup, some seconds of WAL that are lost, and what came next. */
function tenMinutes(mended: boolean) {
  const cluster = new MadeUpCluster('main', new Date('2026-11-22T09:30:30Z'), GIB, 1000)
  cluster.back('full')
  cluster.wait(4 * MINUTE)
  cluster.wait(2000, false)
  if (mended) cluster.back('full')
  cluster.wait(2 * MINUTE)
  if (mended) cluster.back('incr')
  cluster.wait(MINUTE)
  return cluster
}

function drawn(cluster: MadeUpCluster, width = 80, waited = 0) {
  const { spans, unusable } = spansOfCatalog(cluster.catalog())
  const history = historyOf(cluster.catalog(), spans, unusable, cluster.now + waited)
  const lines = timelineText(history, UTC, { color: false, width, unicode: false }).split('\n')
  const row = lines.findIndex((line) => line.startsWith('Timeline 1'))
  return { axis: lines[0]!, row: lines[row]!, marks: lines[row + 1]!, text: lines.join('\n') }
}

describe('the picture of a repository that is ten minutes old', () => {
  test('begins with it, and tells of minutes', () => {
    const { axis, row, marks } = drawn(tenMinutes(true))
    expect(axis).toMatch(/^ +09:32 +09:34 +09:36 .*now$/)
    expect(row).toMatch(/^Timeline 1 {2}={20,}!+={20,}$/)
    expect(marks).toMatch(/^ +F +F +i +$|^ +F +F +i$/)
  })

  test('what is lost hides nothing that can be recovered, and is seen all the same', () => {
    const cluster = new MadeUpCluster('main', new Date('2026-11-12T09:30:30Z'), GIB, MINUTE)
    for (let day = 0; day < 10; day++) {
      cluster.back('full')
      cluster.wait(MINUTE, day !== 5)
      cluster.back('full')
      cluster.back('incr')
      cluster.wait(24 * 60 * MINUTE)
    }
    const { row, marks, text } = drawn(cluster)
    expect(row).toMatch(/^Timeline 1 {2}=+%=+$/)
    expect(marks.trim()).toMatch(/^\+ +\+/)
    expect(text).toMatch(/% partly lost: WAL is missing/)
    expect(text).toMatch(/\+ several kinds of backups/)
  })

  test('the last column tells whether now can be recovered', () => {
    const long = 300 * 24 * 60 * MINUTE
    const older = (cluster: MadeUpCluster) => {
      cluster.wait(long)
      return cluster
    }
    const begun = () => {
      const cluster = new MadeUpCluster('main', new Date('2026-01-22T09:30:30Z'), GIB, MINUTE)
      cluster.back('full')
      return older(cluster)
    }
    const mended = begun()
    mended.wait(MINUTE, false)
    mended.back('full')
    expect(drawn(mended).row).toMatch(/=$/)
    const cut = begun()
    cut.wait(MINUTE, false)
    cut.wait(MINUTE)
    expect(drawn(cut).row).toMatch(/=!$/)
  })

  test('the report draws it from its begin', () => {
    const cluster = tenMinutes(true)
    const now = new Date(cluster.now)
    const page = reportPage({ now, version: '0', clusters: [clusterOf(cluster.catalog(), now, [], {})] })
    expect(page).toContain('Since 2026-11-22 10:31')
    expect(page).toMatch(/<text class="tick[^>]*>10:34</)
  })
})

describe('the WAL of a day', () => {
  const lately = (cluster: MadeUpCluster) =>
    growthOf(cluster.catalog(), cluster.now, UTC).periods.at(-1)!.walBytesPerDay! / (16 * 1024 ** 2)

  test('is not reckoned from ten minutes', () => {
    // A segment a second, from the end of the first backup to that of the last one.
    expect(lately(tenMinutes(true))).toBeCloseTo(482, 0)
  })

  test('is, early in a day, that of the day before too', () => {
    const cluster = new MadeUpCluster('main', new Date('2026-11-20T00:00:00Z'), GIB, 10 * MINUTE)
    for (let hour = 0; hour < 50; hour++) {
      cluster.back(hour === 0 ? 'full' : 'incr')
      cluster.wait(59 * MINUTE)
    }
    // The backup's own minute takes a segment too.
    expect(lately(cluster)).toBeCloseTo(7 * 24, 0)
  })
})

import { describe, expect, test } from 'vitest'
import type { Catalog } from '../../src/catalog/catalog.ts'
import type { RestoreRate } from '../../src/catalog/restore-rates.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { growthOf } from '../../src/status/growth.ts'
import { addFullness } from '../../src/status/outlook.ts'
import { ASSUMED_REPLAY_BYTES_PER_SECOND, restoreEstimate } from '../../src/status/restore-estimate.ts'
import { increment, logicalSummary, SEGMENT, summary } from '../catalog/stored.ts'
import { repositoryFacts } from './facts.ts'

const NOW = new Date('2026-11-21T00:00:00Z')
const name = (number: number) => segmentName(1, BigInt(number), SEGMENT)

/** Segments `first` to `last`, stored between two moments, of which a tenth is left. */
function catalogOf(
  backups: Catalog['backups'],
  [first, last, from, to]: [number, number, string, string],
  logical: Catalog['logical'] = [],
): Catalog {
  const segments = last - first + 1
  const run = {
    first: name(first),
    last: name(last),
    segments,
    storedBytes: (segments * SEGMENT) / 16,
    firstStoredAt: from,
    newestStoredAt: to,
  }
  const wal = [{ timeline: 1, ranges: [run], hasHistory: false }]
  return {
    cluster: 'main',
    systemIdentifier: '7',
    walSegmentBytes: SEGMENT,
    backups,
    logical,
    wal,
    damaged: [],
  }
}

describe('growth', () => {
  test('is that of the last seven days: neither a backup from before counts, nor the WAL up to then', () => {
    const old = summary('20261101T000000Z-full', { first: 10, storedBytes: 7000 })
    const before = summary('20261113T000000Z-full', { first: 1010, storedBytes: 700 })
    const day = increment('20261120T000000Z-incr', before, {
      first: 1710,
      storedBytes: 70,
      clusterBytes: 1000,
    })
    const dump = logicalSummary('20261119T000000Z-logical', { storedBytes: 14 })
    const growth = growthOf(
      catalogOf([old, before, day], [10, 1809, '2026-11-01T00:00:00.000Z', NOW.toISOString()], [dump]),
      NOW,
    )!
    expect(growth).toMatchObject({
      days: 7,
      backupBytesPerDay: 10,
      logicalBytesPerDay: 2,
      clusterBytesPerDay: 100,
    })
    // A hundred segments a day, a sixteenth of each is stored.
    expect(growth.walBytesPerDay / (SEGMENT / 16)).toBeCloseTo(100, 0)
    expect(growth.storedBytesPerDay).toBe(growth.walBytesPerDay + 12)
  })

  test('of less than a day is what was stored in a day, and the growth of the cluster is not known', () => {
    const only = summary('20261120T230000Z-full', { first: 10, storedBytes: 500 })
    const growth = growthOf(
      catalogOf([only], [10, 12, '2026-11-20T23:00:00.000Z', '2026-11-20T23:30:00.000Z']),
      NOW,
    )!
    expect(growth).toMatchObject({ days: 1, backupBytesPerDay: 500, clusterBytesPerDay: null })
    expect(Math.round(growth.walBytesPerDay / (SEGMENT / 16))).toBe(3)
  })

  test('of a cluster that was brought back to an earlier position is not negative', () => {
    const before = summary('20261119T000000Z-full', { first: 500 })
    const after = summary('20261120T000000Z-full', { first: 100, timeline: 2 })
    const { walBytesPerDay } = growthOf(
      catalogOf([before, after], [400, 500, '2026-11-18T22:00:00.000Z', '2026-11-19T00:00:00.000Z']),
      NOW,
    )!
    expect(walBytesPerDay).toBeGreaterThan(0)
  })

  test('of nothing is not known', () => {
    expect(growthOf({ backups: [], logical: [], wal: [], walSegmentBytes: SEGMENT }, NOW)).toBeUndefined()
  })

  test('clusters fill one repository together', () => {
    const growth = {
      ...growthOf(
        catalogOf([summary('20261120T000000Z-full')], [1, 1, NOW.toISOString(), NOW.toISOString()]),
        NOW,
      )!,
    }
    const one = repositoryFacts({ freeBytes: 1000, growth: { ...growth, storedBytesPerDay: 40 } })
    const other = repositoryFacts({ freeBytes: 1000, growth: { ...growth, storedBytesPerDay: 60 } })
    const bucket = repositoryFacts({ location: 's3://b', freeBytes: null, growth })
    addFullness([one, other, bucket])
    expect([one, other, bucket].map(({ fullInSeconds }) => fullInSeconds)).toEqual([864_000, 864_000, null])
  })
})

describe('how long a restore takes', () => {
  const full = summary('20261120T000000Z-full', { first: 10, dataBytes: 3100 })
  const newest = increment('20261120T120000Z-incr', full, { first: 20, clusterBytes: 5000 })
  const catalog = catalogOf([full, newest], [10, 24, '2026-11-20T00:00:00.000Z', NOW.toISOString()])
  const rate = (bytes: number, facts: Partial<RestoreRate> = {}): RestoreRate => ({
    kind: 'restore',
    backup: full.id,
    finishedAt: '2026-11-20T12:00:00.000Z',
    bytes,
    seconds: 10,
    jobs: 2,
    ...facts,
  })

  test('where none was measured, by the rate of full backups, and it says so', () => {
    expect(restoreEstimate(catalog, [])).toMatchObject({
      backup: newest.id,
      copy: { bytes: 5000, bytesPerSecond: 100, basis: 'backups', samples: 1 },
    })
  })

  test('by the middle one of the newest measured restores; those of dumps are not asked', () => {
    const rates = [
      rate(9_999_999),
      ...[100, 5000, 300, 200, 1].map((bytes) => rate(bytes)),
      rate(4000, { backup: '20261120T000000Z-logical' }),
    ]
    expect(restoreEstimate(catalog, rates)!.copy).toEqual({
      bytes: 5000,
      bytesPerSecond: 20,
      basis: 'restores',
      samples: 5,
    })
  })

  test('WAL since the backup is replayed at a rate that is assumed', () => {
    const { replay, seconds } = restoreEstimate(catalog, [])!
    expect(replay).toEqual({
      bytes: 5 * SEGMENT - 0x28,
      assumedBytesPerSecond: ASSUMED_REPLAY_BYTES_PER_SECOND,
    })
    expect(seconds).toBe(Math.round(50 + replay!.bytes / ASSUMED_REPLAY_BYTES_PER_SECOND))
  })

  test('of a dump, where there is no other backup, by what its databases take', () => {
    const dump = logicalSummary('20261120T000000Z-logical')
    const bytes = dump.databases[0]!.bytes
    const only = { ...catalog, backups: [], wal: [], logical: [dump] }
    expect(restoreEstimate(only, [])).toMatchObject({ copy: { bytes, basis: 'backups' }, replay: null })
    expect(restoreEstimate(only, [rate(bytes, { backup: dump.id, seconds: 5 })])).toMatchObject({
      seconds: 5,
    })
    expect(restoreEstimate({ ...only, logical: [] }, [])).toBeUndefined()
  })
})

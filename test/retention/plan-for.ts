import type { BackupSummary } from '../../src/catalog/backup-record.ts'
import type { Catalog } from '../../src/catalog/catalog.ts'
import type { Pin } from '../../src/catalog/pin.ts'
import type { TimelineWal } from '../../src/catalog/wal-ranges.ts'
import { segmentName } from '../../src/postgres/wal-file.ts'
import { planRetention, type RetentionPlan } from '../../src/retention/plan.ts'
import type { RetentionRules } from '../../src/retention/rules.ts'
import { SEGMENT } from '../catalog/stored.ts'

/** Later than all backups of these tests. */
const NOW = new Date('2026-12-01T00:00:00Z')

/** The plan where only readers and locks matter beside the rules. */
export function planFor(
  catalog: Catalog,
  rules: RetentionRules,
  readers: readonly Pin[] = [],
  locks: ReadonlyMap<string, Date> = new Map(),
): RetentionPlan {
  return planRetention(catalog, rules, { now: NOW, readers, locks })
}

export const name = (number: number, timeline = 1) => segmentName(timeline, BigInt(number), SEGMENT)

/** A catalog with runs of WAL; timelines behind the first have a history without ancestors. */
export function catalogOf(
  backups: BackupSummary[],
  runs: { timeline?: number; first: number; last: number; storedAt?: string }[],
): Catalog {
  const timelines = new Map<number, TimelineWal>()
  for (const { timeline = 1, first, last, storedAt = '2026-11-20T12:00:00.000Z' } of runs) {
    const entry: TimelineWal = timelines.get(timeline) ?? {
      timeline,
      ranges: [],
      hasHistory: timeline > 1,
      ...(timeline > 1 && { history: [] }),
    }
    const segments = last - first + 1
    entry.ranges.push({
      first: name(first, timeline),
      last: name(last, timeline),
      segments,
      storedBytes: segments * 10,
      firstStoredAt: storedAt,
      newestStoredAt: storedAt,
    })
    timelines.set(timeline, entry)
  }
  return {
    cluster: 'main',
    systemIdentifier: '7',
    walSegmentBytes: SEGMENT,
    backups,
    logical: [],
    wal: [...timelines.values()],
    damaged: [],
  }
}

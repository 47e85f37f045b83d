import type { BackupSummary } from '../../src/catalog/backup-record.ts'
import type { Catalog } from '../../src/catalog/catalog.ts'
import type { KnownDamage } from '../../src/catalog/known-damage.ts'
import { type Lsn, lsn } from '../../src/postgres/lsn.ts'
import { segmentStart } from '../../src/postgres/wal-file.ts'
import { stretchesOf } from '../../src/status/windows.ts'
import { SEGMENT } from '../catalog/stored.ts'
import type { Segment, Timeline } from './random-archive.ts'

/** WAL without a hole that ends on a timeline. */
export interface Way {
  timeline: number
  /** From which a recovery goes through it, oldest first. */
  backups: BackupSummary[]
  end: Lsn
  /** Those of the timeline itself to the end of which it leads. */
  segments: Segment[]
}

/** To where a catalog leads, as `status` finds it with the same steps as `restore`. */
export interface Ways {
  ways: Way[]
  /** The ids of the backups that cannot be recovered. */
  unusable: ReadonlySet<string>
}

export function waysIn(
  catalog: Catalog,
  timelines: readonly Timeline[],
  damage: KnownDamage | undefined,
): Ways {
  const { stretches, unusable } = stretchesOf(catalog, damage)
  const backups = new Map<string, { timeline: number; end: Lsn; of: Set<BackupSummary> }>()
  for (const { timeline, end, legs, backups: found } of stretches) {
    // What ends on an older timeline is a way to that one; and without WAL there is none.
    if (legs.at(-1)?.timeline !== timeline) continue
    const key = `${timeline}/${end}`
    const known = backups.get(key)?.of ?? []
    backups.set(key, { timeline, end, of: new Set([...known, ...found]) })
  }
  const ways = [...backups.values()].map(({ timeline, end, of }): Way => {
    const ordered = newestFirst([...of]).toReversed()
    const begin = lsn(ordered[0]!.stop.lsn)
    const { segments, receiving } = timelines.find((each) => each.timeline === timeline)!
    const own = (receiving ? [...segments, receiving] : segments).filter(({ number }) => {
      const place = segmentStart(BigInt(number), SEGMENT) + BigInt(SEGMENT - 1)
      return begin <= place && place < end
    })
    return { timeline, end, backups: ordered, segments: own }
  })
  return { ways, unusable: new Set(unusable.map(({ id }) => id)) }
}

/** The way to the newest data. */
export function newestWay(ways: readonly Way[]): Way | undefined {
  return ways.toSorted((a, b) => a.timeline - b.timeline || (a.end < b.end ? -1 : 1)).at(-1)
}

/** By the order of the WAL. */
export function newestFirst(backups: readonly BackupSummary[]): BackupSummary[] {
  return backups.toSorted((a, b) => b.timeline - a.timeline || (lsn(a.stop.lsn) < lsn(b.stop.lsn) ? 1 : -1))
}

import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { Chains } from '../catalog/chains.ts'
import type { KnownDamage } from '../catalog/known-damage.ts'
import { lacksHistory, type TimelineWal } from '../catalog/wal-ranges.ts'
import { type Lsn, lsn } from '../postgres/lsn.ts'
import type { TimelineHistory } from '../postgres/timeline-history.ts'
import { historyName, segmentName, segmentNumber, segmentStart } from '../postgres/wal-file.ts'
import { isOnPath, type Reach, reachAlong, type WalLeg } from '../restore/timeline-path.ts'

/** A stretch of time to any moment of which a recovery leads, as far as the catalog tells it. */
export interface Stretch {
  timeline: number
  /** Whose recoveries go through it, oldest first. */
  backups: BackupSummary[]
  /** The WAL that the last of them reads; empty for a backup that has no WAL but its own. */
  legs: WalLeg[]
  end: Lsn
  /** The missing segment that ends it, where later WAL is stored. */
  cutBy: string | undefined
}

/**
 * A backup that cannot be brought to its end: `missing` is the backup that its chain lacks, or the first segment that it lacks,
 * or its timeline's history; or an object that is known to be damaged, which `reason` tells.
 */
export interface UnusableBackup {
  id: string
  missing: string
  reason?: string
}

/**
 * Follows the WAL from each backup, along each timeline. A timeline whose history is lost leads nowhere, and nor does a backup
 * whose chain is broken or known to be damaged. Pure.
 * @returns the stretches of each timeline, in the order of time
 */
export function stretchesOf(
  catalog: Catalog,
  damage?: KnownDamage,
): { stretches: Stretch[]; unusable: UnusableBackup[] } {
  const stretches: Stretch[] = []
  const unusable = new Map<string, UnusableBackup>()
  const usable = new Set<string>()
  const chains = new Chains(catalog.backups)
  for (const timeline of timelinesOf(catalog)) {
    const path = pathTo(catalog.wal, timeline)
    const isLost = catalog.wal.some((entry) => entry.timeline === timeline && lacksHistory(entry))
    const reaches = new Reaches(path, catalog)
    for (const backup of catalog.backups.filter((candidate) => reaches.isOnPath(candidate))) {
      const reach = reaches.of(backup)
      const whole = wholeEnd(reach, catalog.walSegmentBytes)
      const isWhole = whole >= lsn(backup.stop.lsn)
      const link = chains.missingOf(backup)
      const damaged = damage?.of(backup)
      if (link !== undefined) unusable.set(backup.id, { id: backup.id, missing: link })
      else if (damaged)
        unusable.set(backup.id, { id: backup.id, missing: damaged.key, reason: damaged.reason })
      else if (isLost) unusable.set(backup.id, { id: backup.id, missing: historyName(timeline) })
      else if (isWhole || backup.standalone) {
        usable.add(backup.id)
        add(stretches, timeline, backup, isWhole ? reach : { ...reach, legs: [], end: lsn(backup.stop.lsn) })
      } else {
        const number = segmentNumber(whole, catalog.walSegmentBytes)
        const missing = segmentName(backup.timeline, number, catalog.walSegmentBytes)
        unusable.set(backup.id, { id: backup.id, missing })
      }
    }
  }
  return { stretches, unusable: [...unusable.values()].filter(({ id }) => !usable.has(id)) }
}

/**
 * How far recoveries along one path go. There may be thousands that begin one behind the other in WAL without a hole, so what one
 * reads is followed once: from where a later one begins, it reads the same.
 */
class Reaches {
  readonly #path: TimelineHistory
  readonly #stretches: ReadonlyMap<number, TimelineHistory[number]>
  readonly #catalog: Catalog
  /** The newest one, by the timeline that it begins on. */
  readonly #found = new Map<number, Reach>()

  constructor(path: TimelineHistory, catalog: Catalog) {
    this.#path = path
    this.#stretches = new Map(path.map((stretch) => [stretch.timeline, stretch]))
    this.#catalog = catalog
  }

  isOnPath(backup: BackupSummary): boolean {
    const stretch = this.#stretches.get(backup.timeline)
    return stretch !== undefined && isOnPath([stretch], backup)
  }

  of({ timeline, start }: BackupSummary): Reach {
    const { wal, walSegmentBytes } = this.#catalog
    const first = segmentNumber(lsn(start.lsn), walSegmentBytes)
    const before = this.#found.get(timeline)
    const [leg, ...later] = before?.legs ?? []
    if (before && leg?.timeline === timeline && leg.first <= first && first <= leg.last)
      return { ...before, legs: [{ ...leg, first }, ...later] }
    const reach = reachAlong(this.#path, lsn(start.lsn), wal, walSegmentBytes)
    this.#found.set(timeline, reach)
    return reach
  }
}

/** Where the whole segments end: how much there is of a growing one is not known here. */
const wholeEnd = ({ end, legs, isGrowing }: Reach, segmentBytes: number): Lsn =>
  isGrowing ? segmentStart(legs.at(-1)!.last, segmentBytes) : end

function add(stretches: Stretch[], timeline: number, backup: BackupSummary, { legs, end, gap }: Reach): void {
  const last = stretches.at(-1)
  if (last?.timeline === timeline && last.end === end) {
    last.backups.push(backup)
    last.legs = legs
  } else stretches.push({ timeline, backups: [backup], legs, end, cutBy: gap })
}

/** Timelines of which there is more than a history. */
function timelinesOf({ wal, backups }: Catalog): number[] {
  const withWal = wal.filter(({ ranges, receiving }) => ranges.length > 0 || receiving)
  const all = [...withWal, ...backups].map(({ timeline }) => timeline)
  return [...new Set(all)].toSorted((a, b) => a - b)
}

/** The timeline that goes on: the server's own where that is known, or the newest of which there is more than a history. */
export function currentTimeline(catalog: Catalog, servers: number | undefined): number | undefined {
  return servers ?? timelinesOf(catalog).at(-1)
}

/** The way through the ancestors; where no history is stored, the timeline alone. */
export function pathTo(wal: readonly TimelineWal[], timeline: number): TimelineHistory {
  const ancestors = wal.find((entry) => entry.timeline === timeline)?.history ?? []
  const ends = ancestors.map(({ switchedAt }) => lsn(switchedAt))
  return [...ancestors.map((ancestor) => ancestor.timeline), timeline].map((number, at) => ({
    timeline: number,
    begin: ends[at - 1] ?? 0n,
    end: ends[at],
  }))
}

/** The WAL at the end of a stretch, `atMost` segments of it. */
export function endOf({ legs }: Stretch, atMost: number): WalLeg[] {
  const tail: WalLeg[] = []
  let left = BigInt(atMost)
  for (const leg of legs.toReversed()) {
    if (left <= 0n) break
    const first = leg.last - left + 1n
    tail.unshift({ ...leg, first: first > leg.first ? first : leg.first })
    left -= leg.last - leg.first + 1n
  }
  return tail
}

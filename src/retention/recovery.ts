import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { formatLsn } from '../postgres/lsn.ts'
import { byKey } from './by-key.ts'
import type { Faults } from './faults.ts'
import { type Stretch, stretchesOf } from './stretches.ts'

/** A stretch of time to any moment of which one can go back on a timeline. */
export interface RecoveryWindow {
  /** When the first backup that leads into it had ended; ISO 8601, by the server's clock. */
  from: string
  /**
   * When the newest of its WAL was stored, by the store's clock: the last transaction in it is a little older. Absent where
   * there is no more WAL than what makes the backup consistent, so that one can go to its end and no further.
   */
  until?: string
  /** An LSN: the first position that its WAL does not cover. */
  end: string
}

/** What a run changes for recoveries to one timeline. */
export interface RecoveryChange {
  timeline: number
  before: RecoveryWindow[]
  after: RecoveryWindow[]
}

/**
 * To where one can go back before and after. Pure.
 * @param before the stretches as they are stored
 * @param left what is going to be stored
 * @param faults those of before: nothing that goes makes new ones
 */
export function recoveryChanges(
  { backups }: Catalog,
  before: readonly Stretch[],
  left: Catalog,
  faults: Faults,
): RecoveryChange[] {
  const windowsBefore = windowsOf(backups, before, faults)
  const windowsAfter = windowsOf(left.backups, stretchesOf(left), faults)
  const timelines = new Set([...windowsBefore.keys(), ...windowsAfter.keys()])
  return [...timelines]
    .toSorted((a, b) => a - b)
    .map((timeline) => ({
      timeline,
      before: windowsBefore.get(timeline) ?? [],
      after: windowsAfter.get(timeline) ?? [],
    }))
}

/** @returns by the timeline, in the order of time */
function windowsOf(
  backups: readonly BackupSummary[],
  stretches: readonly Stretch[],
  faults: Faults,
): Map<number, RecoveryWindow[]> {
  const leading = new Set(stretches.flatMap((stretch) => stretch.backups))
  const windows: [number, RecoveryWindow][] = [
    ...backups
      .filter((backup) => !leading.has(backup) && !faults.has(backup))
      .map(({ timeline, stop }): [number, RecoveryWindow] => [timeline, { from: stop.time, end: stop.lsn }]),
    ...stretches.map(({ timeline, backups: [first], end, goesOn, storedUntil }): [number, RecoveryWindow] => [
      timeline,
      { from: first!.stop.time, ...(goesOn && { until: storedUntil }), end: formatLsn(end) },
    ]),
  ]
  return byKey(windows.toSorted(([, a], [, b]) => (a.from < b.from ? -1 : 1)))
}

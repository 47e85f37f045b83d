import type { BackupSummary } from '../catalog/backup-record.ts'
import { locksPrefix } from '../catalog/layout.ts'
import type { TimelineWal } from '../catalog/wal-ranges.ts'
import type { Storage } from '../storage/storage.ts'
import { secondOf } from './holds.ts'
import { CLOCKS_DIFFER_MS, endOf, isFromFuture } from './wal-order.ts'

/**
 * What is later than now, so that one of the clocks is wrong: in a sentence each. Pure.
 * @param staying in any order
 */
export function futureWarnings(
  staying: readonly BackupSummary[],
  wal: readonly TimelineWal[],
  now: Date,
): string[] {
  const future = staying.filter((backup) => isFromFuture(backup, now)).toSorted((a, b) => endOf(a) - endOf(b))
  const newest = future.at(-1)
  const stored = wal
    .flatMap(({ ranges }) => ranges.map(({ newestStoredAt }) => newestStoredAt))
    .reduce((latest, moment) => (moment > latest ? moment : latest), '')
  return [
    ...(newest && future.length === 1
      ? [`backup ${newest.id} ended at ${newest.stop.time} by its clock, which is later than now`]
      : []),
    ...(newest && future.length > 1
      ? [
          `${future.length} backups ended later than now by their clocks, the last one, ${newest.id}, at ${newest.stop.time}: is this host's clock behind?`,
        ]
      : []),
    ...(Date.parse(stored) > now.getTime() + CLOCKS_DIFFER_MS
      ? [
          `WAL was stored at ${stored} by the store's clock, which is later than now: is this host's clock behind?`,
        ]
      : []),
  ]
}

/** Where clocks differ by so much, nobody knows what day it is; in milliseconds. */
const DAYS_APART_MS = 24 * 60 * 60_000

/** The store's clock and ours, where they differ. */
export interface DifferingClocks {
  /** The store's. */
  stored: Date
  /** Whether by so much that nothing may go by its time: else what rules say of days and spans of time goes by ours. */
  areDaysApart: boolean
  /** A sentence for people. */
  warning: string
}

/**
 * Whether the store's clock is another one than ours, told by our own lock, which was stored just now.
 * @returns undefined where they agree
 */
export async function differingClocks(
  storage: Storage,
  cluster: string,
  now: Date,
): Promise<DifferingClocks | undefined> {
  let stored: Date | undefined
  for await (const { modified } of storage.list(locksPrefix(cluster)))
    if (!stored || modified > stored) stored = modified
  const difference = Math.abs(now.getTime() - (stored ?? now).getTime())
  if (!stored || difference <= CLOCKS_DIFFER_MS) return undefined
  const areDaysApart = difference >= DAYS_APART_MS
  const outcome = areDaysApart
    ? 'until they agree no pin ends, and nothing goes by a rule that counts days or hours'
    : 'rules that count days and hours may let go what should stay'
  const moments = `it is ${secondOf(now)} by this host's clock, and ${secondOf(stored)} by that of ${storage.location}`
  return { stored, areDaysApart, warning: `${moments}: ${outcome}` }
}

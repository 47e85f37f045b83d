import type { BackupSummary } from '../catalog/backup-record.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { lsn } from '../postgres/lsn.ts'
import { daysOf } from '../status/growth.ts'
import type { Clock } from './clock.ts'
import { KINDS, type Kind } from './history.ts'

/** What of a cluster grew, and how fast things went, by periods of one length. */
export interface Growth {
  unit: 'day' | 'week' | 'month'
  /** In order; those in which there is nothing too. */
  periods: Period[]
}

/** Undefined is what a period has nothing to tell of. */
export interface Period {
  /** Its begin and the next one's; milliseconds since 1970. */
  from: number
  to: number
  counts: Record<Kind, number>
  /** What the backups of each kind take up. */
  storedBytes: Record<Kind, number>
  /** The cluster's files at the end of the period's newest backup. */
  clusterBytes: number | undefined
  /** Between backups that ended within it; where they span less than a day, with those before. */
  walBytesPerDay: number | undefined
  /** Of the fastest full backup, plain bytes. */
  fullBytesPerSecond: number | undefined
}

const DAY = 24 * 60 * 60_000
/** So many days, or weeks, can still be told apart. */
const MOST_DAYS = 45
const MOST_WEEKS = 60

/** Pure. @param now milliseconds since 1970 */
export function growthOf(
  { backups, logical }: Pick<Catalog, 'backups' | 'logical'>,
  now: number,
  clock: Clock,
): Growth {
  const times = [...backups.map(({ stop }) => stop.time), ...logical.map(({ finishedAt }) => finishedAt)]
  const first = times.reduce((least, time) => Math.min(least, Date.parse(time)), now)
  const days = (now - first) / DAY
  const unit = days <= MOST_DAYS ? 'day' : days <= 7 * MOST_WEEKS ? 'week' : 'month'
  const periods = periodsOf(unit, first, now, clock)
  const at = (time: string) => periodAt(periods, Date.parse(time))
  for (const backup of backups) addBackup(at(backup.stop.time), backup)
  for (const { finishedAt, storedBytes } of logical) {
    const period = at(finishedAt)
    period.counts.logical++
    period.storedBytes.logical += storedBytes
  }
  addWal(backups, at)
  return { unit, periods }
}

function periodsOf(unit: Growth['unit'], first: number, now: number, clock: Clock): Period[] {
  const periods: Period[] = []
  for (let from = beginOf(unit, first, clock); from <= now; ) {
    const to = nextOf(unit, from, clock)
    const none = () => Object.fromEntries(KINDS.map((kind) => [kind, 0])) as Record<Kind, number>
    const unknown = { clusterBytes: undefined, walBytesPerDay: undefined, fullBytesPerSecond: undefined }
    periods.push({ from, to, counts: none(), storedBytes: none(), ...unknown })
    from = to
  }
  return periods
}

function beginOf(unit: Growth['unit'], at: number, clock: Clock): number {
  if (unit === 'week') return clock.daysAfter(at, -clock.weekday(at))
  return unit === 'day' ? clock.midnight(at) : clock.daysAfter(at, 1 - Number(clock.day(at).slice(8)))
}

function nextOf(unit: Growth['unit'], from: number, clock: Clock): number {
  if (unit === 'month') return beginOf(unit, clock.daysAfter(from, 31), clock)
  return clock.daysAfter(from, unit === 'week' ? 7 : 1)
}

/** What a wrong clock puts behind now counts for the last one. */
function periodAt(periods: readonly Period[], at: number): Period {
  return periods.findLast(({ from }) => from <= at) ?? periods[0]!
}

function addBackup(period: Period, backup: BackupSummary): void {
  const { type, storedBytes, dataBytes, clusterBytes, startedAt, finishedAt, consolidatedFrom } = backup
  period.counts[type]++
  period.storedBytes[type] += storedBytes
  period.clusterBytes = clusterBytes ?? dataBytes
  const seconds = (Date.parse(finishedAt) - Date.parse(startedAt)) / 1000
  // One that was put together of others tells nothing of the server.
  if (type === 'full' && !consolidatedFrom && seconds > 0)
    period.fullBytesPerSecond = Math.max(period.fullBytesPerSecond ?? 0, dataBytes / seconds)
}

function addWal(backups: readonly BackupSummary[], at: (time: string) => Period): void {
  const steps = backups.flatMap(({ timeline, stop }, index) => {
    const before = backups[index - 1]
    if (before?.timeline !== timeline) return []
    const bytes = Number(lsn(stop.lsn) - lsn(before.stop.lsn))
    const ms = Date.parse(stop.time) - Date.parse(before.stop.time)
    return bytes < 0 || ms <= 0 ? [] : [{ period: at(stop.time), bytes, ms }]
  })
  for (const [last, { period }] of steps.entries()) {
    if (steps[last + 1]?.period === period) continue
    let [bytes, ms] = [0, 0]
    for (let index = last; index >= 0; index--) {
      const step = steps[index]!
      if (step.period !== period && ms >= DAY) break
      bytes += step.bytes
      ms += step.ms
    }
    period.walBytesPerDay = bytes / daysOf(ms)
  }
}

import type { BackupSummary } from '../../src/catalog/backup-record.ts'
import { Chains } from '../../src/catalog/chains.ts'
import { faultsOf } from '../../src/retention/faults.ts'
import type { Situation } from '../../src/retention/holds.ts'
import type { RetentionRules, Wish } from '../../src/retention/rules.ts'
import type { Archive } from './random-archive.ts'
import { newestFirst, newestWay, type Way } from './ways.ts'

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR
const CLOCKS_DIFFER = 5 * MINUTE

/** Time zones without a summer time, with the milliseconds that their clocks are ahead. */
export const ZONES = [
  { timeZone: 'UTC', offset: 0 },
  { timeZone: 'Asia/Kolkata', offset: 5.5 * HOUR },
  { timeZone: 'America/Phoenix', offset: -7 * HOUR },
]

interface Question {
  archive: Archive
  rules: RetentionRules
  situation: Situation
  ways: readonly Way[]
}

type Wants = (backup: BackupSummary) => boolean
type Rule = Exclude<Wish['rule'], 'chain' | 'logical'>

/** Each rule as it is written down, asked of one backup after the other, without a thought for the time that takes. */
export function wantersOf({ archive, rules, situation, ways }: Question): Record<Rule, Wants> {
  const { catalog } = archive
  const now = situation.now.getTime()
  const ordered = newestFirst(catalog.backups)
  const faults = faultsOf(catalog, new Chains(catalog.backups), situation.damage)
  const isGood = (backup: BackupSummary) => !faults.has(backup)
  const isFuture = (backup: BackupSummary) => endOf(backup) > now + CLOCKS_DIFFER
  const leading = new Set(ways.flatMap(({ backups }) => backups))
  const usable = ordered.filter((backup) => leading.has(backup) || isGood(backup))
  return {
    ...countWanters(rules, ordered, isGood),
    ...calendarWanters(rules, usable, isFuture),
    window: windowWanter(rules.window, now, ways, usable, isFuture),
    pin: ({ id }) =>
      situation.pinned!.some(
        ({ backup, until }) => backup === id && (until === undefined || until.getTime() > now),
      ),
    reader: ({ id }) => situation.readers.some(({ backup }) => backup === id),
    lock: ({ id }) => situation.locks!.has(id),
    unreadable: ({ id }) => catalog.damaged.some((unreadable) => id < unreadable.id),
  }
}

function countWanters(
  rules: RetentionRules,
  ordered: readonly BackupSummary[],
  isGood: Wants,
): Record<'none' | 'fault' | 'full' | 'diff' | 'incr' | 'minimum', Wants> {
  const { full, minimum = 1 } = rules
  const hasRule = [full, rules.window, rules.daily, rules.weekly, rules.monthly, rules.yearly].some(
    (rule) => rule !== undefined,
  )
  const goodNewer = (backup: BackupSummary, type: BackupSummary['type']) =>
    ordered.slice(0, ordered.indexOf(backup)).filter((other) => other.type === type && isGood(other)).length
  const isWithin = (backup: BackupSummary) =>
    full !== undefined && isGood(backup) && goodNewer(backup, 'full') < full
  const ofType = (type: 'diff' | 'incr') => (backup: BackupSummary) =>
    backup.type === type && isWithin(backup) && goodNewer(backup, type) < (rules[type] ?? 0)
  return {
    none: (backup) => !hasRule && isGood(backup),
    fault: (backup) =>
      !isGood(backup) && (!hasRule || goodNewer(backup, 'full') < Math.max(full ?? 0, minimum)),
    full: (backup) => isWithin(backup) && (backup.type === 'full' || rules[backup.type] === undefined),
    diff: ofType('diff'),
    incr: ofType('incr'),
    minimum: (backup) => backup.type === 'full' && isGood(backup) && goodNewer(backup, 'full') < minimum,
  }
}

function calendarWanters(
  rules: RetentionRules,
  usable: readonly BackupSummary[],
  isFuture: Wants,
): Record<'daily' | 'weekly' | 'monthly' | 'yearly' | 'clock', Wants> {
  const dated = usable.filter((backup) => !isFuture(backup))
  const { offset } = ZONES.find(({ timeZone }) => timeZone === rules.timeZone)!
  const newestOf =
    (count: number | undefined, periodOf: (ms: number) => number) => (backup: BackupSummary) => {
      if (count === undefined || !dated.includes(backup)) return false
      const period = (other: BackupSummary) => periodOf(endOf(other) + offset)
      const periods = [...new Set(dated.map(period))].sort((a, b) => b - a).slice(0, count)
      const newest = dated.find((other) => period(other) === period(backup))
      return periods.includes(period(backup)) && newest === backup
    }
  const year = (ms: number) => new Date(ms).getUTCFullYear()
  const counts = [rules.daily, rules.weekly, rules.monthly, rules.yearly]
  return {
    daily: newestOf(rules.daily, (ms) => Math.floor(ms / DAY)),
    // The first day of 1970 was a Thursday.
    weekly: newestOf(rules.weekly, (ms) => Math.floor((Math.floor(ms / DAY) + 3) / 7)),
    monthly: newestOf(rules.monthly, (ms) => year(ms) * 12 + new Date(ms).getUTCMonth()),
    yearly: newestOf(rules.yearly, year),
    clock: (backup) =>
      counts.some((count) => count !== undefined) && usable.includes(backup) && isFuture(backup),
  }
}

/** Inside, or the newest that had ended when it began: of each way that reaches into it, and of all. */
function windowWanter(
  window: number | undefined,
  now: number,
  ways: readonly Way[],
  usable: readonly BackupSummary[],
  isFuture: Wants,
): Wants {
  if (window === undefined) return () => false
  const begin = now - window
  const newest = newestWay(ways)
  const reaching = ways
    .filter((way) => way === newest || way.segments.some(({ storedAt }) => storedAt! >= begin))
    .map(({ backups }) => backups)
  const first = [...reaching, usable.toReversed()].map((way) => {
    const believed = way.filter((backup) => !isFuture(backup))
    // A clock that went back does not say how old a backup is.
    const end = believed.findIndex(
      (backup, index) => endOf(backup) > begin || endOf(backup) < endOf(believed[index - 1] ?? backup),
    )
    return (end < 0 ? believed : believed.slice(0, end)).at(-1)
  })
  return (backup) => endOf(backup) > begin || first.includes(backup)
}

const endOf = ({ stop }: BackupSummary) => Date.parse(stop.time)

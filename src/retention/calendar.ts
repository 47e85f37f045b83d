import type { BackupSummary } from '../catalog/backup-record.ts'
import { CALENDAR_RULES, type Claim, type RetentionRules } from './rules.ts'
import { endOf, isFromFuture } from './wal-order.ts'

type CalendarRule = (typeof CALENDAR_RULES)[number]

/** The period in which a day lies; periods of one rule are in the order of their names. */
const PERIOD_OF: Record<CalendarRule, (day: string) => string> = {
  daily: (day) => day,
  weekly: weekOf,
  monthly: (day) => day.slice(0, 'YYYY-MM'.length),
  yearly: (day) => day.slice(0, 'YYYY'.length),
}

const DAY_MS = 24 * 60 * 60 * 1000

/**
 * What `daily`, `weekly`, `monthly` and `yearly` want: the newest backup of each of the last periods that have one. What is
 * from the future would take the place of a real period, so it stays beside them. Pure.
 * @param oldestFirst those that can be recovered, in the order of the WAL
 */
export function calendarClaims(
  oldestFirst: readonly BackupSummary[],
  rules: RetentionRules,
  now: Date,
): Claim[] {
  const wanted = CALENDAR_RULES.filter((rule) => rules[rule] !== undefined)
  if (wanted.length === 0) return []
  const dayOf = dayIn(rules.timeZone ?? 'UTC')
  const future = oldestFirst.filter((backup) => isFromFuture(backup, now))
  const days = oldestFirst
    .filter((backup) => !isFromFuture(backup, now))
    .map((backup) => ({ backup, day: dayOf(endOf(backup)) }))
  return [
    ...wanted.flatMap((rule) => newestOfEach(days, rule, rules[rule]!)),
    ...future.map((backup): Claim => ({ backup, rule: 'clock', text: 'ended later than now, by its clock' })),
  ]
}

function newestOfEach(
  days: readonly { backup: BackupSummary; day: string }[],
  rule: CalendarRule,
  count: number,
): Claim[] {
  const newest = new Map<string, BackupSummary>()
  for (const { backup, day } of days) newest.set(PERIOD_OF[rule](day), backup)
  return [...newest.keys()]
    .toSorted()
    .slice(-count)
    .map((period) => ({ backup: newest.get(period)!, rule, text: `${rule} ${period}` }))
}

/** Which day it is somewhere, `YYYY-MM-DD`, at a moment in milliseconds since 1970. */
function dayIn(timeZone: string): (moment: number) => string {
  const format = new Intl.DateTimeFormat('en-u-ca-gregory-nu-latn', {
    timeZone,
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
  })
  return (moment) => {
    const part = Object.fromEntries(format.formatToParts(moment).map(({ type, value }) => [type, value]))
    return `${part.year}-${part.month}-${part.day}`
  }
}

/** The first moment of the next day, wherever clocks are set forward or back between. @param day `YYYY-MM-DD` */
export function endOfDay(day: string, timeZone: string): Date {
  const dayOf = dayIn(timeZone)
  const noon = Date.parse(`${day}T12:00:00Z`)
  // No zone is further from UTC than 14 hours.
  let [inside, behind] = [noon - 2 * DAY_MS, noon + 2 * DAY_MS]
  while (behind - inside > 1) {
    const middle = Math.floor((inside + behind) / 2)
    if (dayOf(middle) <= day) inside = middle
    else behind = middle
  }
  return new Date(behind)
}

/** `YYYY-Www` as ISO 8601 has it: a week begins on Monday, and is of the year of its Thursday. */
function weekOf(day: string): string {
  const date = new Date(`${day}T00:00:00Z`)
  const sinceMonday = (date.getUTCDay() + 6) % 7
  const thursday = new Date(date.getTime() + (3 - sinceMonday) * DAY_MS)
  const year = thursday.getUTCFullYear()
  const week = Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / (7 * DAY_MS)) + 1
  return `${year}-W${String(week).padStart(2, '0')}`
}

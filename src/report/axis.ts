import type { Clock } from './clock.ts'

/** A stretch of time that is drawn from left to right; milliseconds since 1970. */
export interface Range {
  from: number
  to: number
}

export interface Tick {
  at: number
  text: string
  /** Whether it stands where there is little room too. */
  isMajor: boolean
}

const MINUTE = 60_000
const HOUR = 60 * MINUTE
const DAY = 24 * HOUR

/** Steps of days; longer ones are of months. */
const DAY_STEPS = [1, 2, 7, 14]
const MONTH_STEPS = [1, 3, 6, 12, 24, 60]
const HOUR_STEPS = [1, 3, 6, 12]
const MINUTE_STEPS = [1, 2, 5, 10, 15, 30]
const MOST = 9

/** From the first thing that there is to now; a minute of what is younger, so that there is something to draw. */
export const rangeSince = (begin: number, now: number): Range => ({
  from: Math.min(begin, now - MINUTE),
  to: now,
})

/** Where a moment lies, in percent of the width; what lies outside lies at the edge. */
export function percentOf({ from, to }: Range, at: number): number {
  const share = (at - from) / Math.max(1, to - from)
  return Math.round(Math.min(1, Math.max(0, share)) * 10_000) / 100
}

/** Up to nine marks on round moments of the time zone. Pure. */
export function ticksOf(range: Range, clock: Clock): Tick[] {
  const span = range.to - range.from
  const minutes = MINUTE_STEPS.find((step) => span / (step * MINUTE) <= MOST)
  if (minutes !== undefined) return marked(minuteTicks(range, minutes, clock))
  const hours = HOUR_STEPS.find((step) => span / (step * HOUR) <= MOST)
  if (hours !== undefined) return marked(hourTicks(range, hours, clock))
  const days = DAY_STEPS.find((step) => span / (step * DAY) <= MOST)
  if (days !== undefined) return marked(dayTicks(range, days, clock))
  const step = MONTH_STEPS.find((months) => span / (months * 30.4 * DAY) <= MOST) ?? 120
  return marked(monthTicks(range, step, clock))
}

type Place = Pick<Tick, 'at' | 'text'>

/** Every second one stands everywhere, counted from the last one, which is nearest to now. */
const marked = (places: readonly Place[]): Tick[] =>
  places.map((place, index) => ({ ...place, isMajor: (places.length - 1 - index) % 2 === 0 }))

/** The offsets of time zones are whole minutes. */
function minuteTicks({ from, to }: Range, step: number, clock: Clock): Place[] {
  const ticks: Place[] = []
  for (let at = Math.ceil(from / MINUTE) * MINUTE; at <= to; at += MINUTE) {
    const time = clock.time(at)
    if (Number(time.slice(3)) % step === 0)
      ticks.push({ at, text: time === '00:00' ? dayText(at, clock) : time })
  }
  return ticks
}

/** By what clocks show: a day on which they change has 23 hours, or 25. */
function hourTicks({ from, to }: Range, step: number, clock: Clock): Place[] {
  const ticks: Place[] = []
  for (let at = clock.midnight(from); at <= to; at += HOUR) {
    const time = clock.time(at)
    if (at < from || Number(time.slice(0, 2)) % step !== 0) continue
    ticks.push({ at, text: time === '00:00' ? dayText(at, clock) : time })
  }
  return ticks
}

function dayTicks({ from, to }: Range, step: number, clock: Clock): Place[] {
  const ticks: Place[] = []
  // Weeks begin with Monday, and other steps with the first day.
  const first = step % 7 === 0 ? clock.daysAfter(from, -clock.weekday(from)) : clock.midnight(from)
  for (let at = first; at <= to; at = clock.daysAfter(at, step))
    if (at >= from) ticks.push({ at, text: dayText(at, clock) })
  return ticks
}

function monthTicks({ from, to }: Range, step: number, clock: Clock): Place[] {
  const ticks: Place[] = []
  const monthOf = (at: number) =>
    12 * Number(clock.day(at).slice(0, 4)) + Number(clock.day(at).slice(5, 7)) - 1
  for (let at = clock.daysAfter(from, 1 - Number(clock.day(from).slice(8))); at <= to; ) {
    if (at >= from && monthOf(at) % step === 0) ticks.push({ at, text: monthText(at, clock) })
    const later = clock.daysAfter(at, 31)
    at = clock.daysAfter(later, 1 - Number(clock.day(later).slice(8)))
  }
  return ticks
}

const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
const monthName = (day: string) => MONTHS[Number(day.slice(5, 7)) - 1]!

function dayText(at: number, clock: Clock): string {
  const day = clock.day(at)
  return `${Number(day.slice(8))} ${monthName(day)}`
}

function monthText(at: number, clock: Clock): string {
  const day = clock.day(at)
  return `${monthName(day)} ${day.slice(0, 4)}`
}

/** Days of the week, counted from Monday (0) on, or of the month, from 1 on; ascending, without repetitions. */
export interface Days {
  of: 'week' | 'month'
  days: number[]
}

/** When something is to be done: every so many minutes, or at a minute of some days. */
export type When = { everyMinutes: number } | { days: Days; minute: number }

const WEEK = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun']
const ALL = { week: [0, 1, 2, 3, 4, 5, 6], month: Array.from({ length: 31 }, (_, day) => day + 1) }
const DAY_MINUTES = 24 * 60

/**
 * Reads `01:30`, `Sun 01:30`, `Mon-Sat 01:30`, `Mon,Thu 01:30`, `day 1,15 01:30`, `every 10min`, `every 6h`.
 * @returns undefined for any other text, also for a span of time that does not divide an hour or a day
 */
export function parseWhen(text: string): When | undefined {
  const words = text.trim().split(/\s+/)
  if (words[0] === 'every' && words.length === 2) return parseEvery(words[1]!)
  const time = /^(\d{1,2}):(\d{2})$/.exec(words.pop()!)
  const [hour, minute] = [Number(time?.[1]), Number(time?.[2])]
  const days = parseDays(words)
  return days && hour < 24 && minute < 60 ? { days, minute: hour * 60 + minute } : undefined
}

function parseEvery(span: string): When | undefined {
  const [, count, unit] = /^(\d+)(min|h)$/.exec(span) ?? []
  const minutes = Number(count) * (unit === 'h' ? 60 : 1)
  const whole = unit === 'h' ? DAY_MINUTES : 60
  return minutes > 0 && minutes < DAY_MINUTES && whole % minutes === 0 ? { everyMinutes: minutes } : undefined
}

function parseDays(words: string[]): Days | undefined {
  if (words.length === 0) return { of: 'week', days: ALL.week }
  const of = words[0] === 'day' ? 'month' : 'week'
  const list = of === 'month' ? words.slice(1) : words
  if (list.length !== 1) return undefined
  const numberOf = (name: string) =>
    of === 'month' && /^\d+$/.test(name) ? Number(name) : WEEK.indexOf(of === 'week' ? name : '')
  const all = ALL[of]
  const days = list[0]!.split(',').flatMap((part) => {
    const [first, last = first, ...rest] = part.split('-').map((name) => all.indexOf(numberOf(name)))
    if (first === undefined || first < 0 || last! < 0 || rest.length > 0) return [-1]
    // Sat-Mon goes over the end of the week.
    const length = ((last! - first + all.length) % all.length) + 1
    return Array.from({ length }, (_, step) => all[(first + step) % all.length]!)
  })
  if (days.includes(-1)) return undefined
  return { of, days: [...new Set(days)].sort((a, b) => a - b) }
}

/** The same minute of all other days; undefined where there are none. */
export function onOtherDays(when: When): When | undefined {
  if ('everyMinutes' in when) return undefined
  const { of, days } = when.days
  const others = ALL[of].filter((day) => !days.includes(day))
  return others.length > 0 ? { ...when, days: { of, days: others } } : undefined
}

/**
 * Later by some minutes, but on the same day; what is done every so many minutes is moved within these.
 * @returns a When, and the minutes after the full span at which something that repeats is done
 */
function shifted(when: When, minutes: number): { when: When; offset: number } {
  if ('everyMinutes' in when) return { when, offset: minutes % when.everyMinutes }
  return { when: { ...when, minute: Math.min(when.minute + minutes, DAY_MINUTES - 1) }, offset: 0 }
}

/**
 * The five fields of cron.
 * @param laterMinutes the jitter, as cron knows none
 */
export function cronOf(planned: When, laterMinutes: number): string {
  const { when, offset } = shifted(planned, laterMinutes)
  if ('everyMinutes' in when) {
    const { everyMinutes: every } = when
    if (every <= 60) return `${every === 60 ? offset : `${offset}-59/${every}`} * * * *`
    return `${offset % 60} ${Math.floor(offset / 60)}-23/${every / 60} * * *`
  }
  const { of, days } = when.days
  // Cron counts from Sunday on.
  const numbers = of === 'week' ? days.map((day) => (day + 1) % 7).sort((a, b) => a - b) : days
  const list = days.length === ALL[of].length ? '*' : runs(numbers, String, '-')
  const time = `${when.minute % 60} ${Math.floor(when.minute / 60)}`
  return of === 'week' ? `${time} * * ${list}` : `${time} ${list} * *`
}

/**
 * A calendar expression of systemd.
 * @param timeZone the host's own when left out
 * @see https://www.freedesktop.org/software/systemd/man/latest/systemd.time.html
 */
export function systemdOf(when: When, timeZone: string | undefined): string {
  const zone = timeZone === undefined ? '' : ` ${timeZone}`
  if ('everyMinutes' in when) {
    const { everyMinutes: every } = when
    return every < 60 ? `*:0/${every}${zone}` : `0/${every / 60}:00${zone}`
  }
  const { of, days } = when.days
  const time = `${twoDigits(Math.floor(when.minute / 60))}:${twoDigits(when.minute % 60)}:00`
  if (days.length === ALL[of].length) return `*-*-* ${time}${zone}`
  if (of === 'month') return `*-*-${runs(days, twoDigits, '..')} ${time}${zone}`
  return `${runs(days, (day) => WEEK[day]!, '..')} *-*-* ${time}${zone}`
}

/** What repeats so often is no use to make up for after the host was off. */
export const isOften = (when: When) => 'everyMinutes' in when

/** Jitter of so many minutes at most, and less than the time between two runs. */
export function jitterFor(when: When, minutes: number): number {
  return 'everyMinutes' in when ? Math.min(minutes, when.everyMinutes - 1) : minutes
}

const twoDigits = (number: number) => String(number).padStart(2, '0')

/** A list in which numbers that follow each other are written as first and last. */
function runs(numbers: readonly number[], name: (number: number) => string, dash: string): string {
  const found: [number, number][] = []
  for (const number of numbers) {
    const last = found.at(-1)
    if (last && last[1] === number - 1) last[1] = number
    else found.push([number, number])
  }
  return found
    .map(([first, last]) => {
      if (first === last) return name(first)
      return last === first + 1 ? `${name(first)},${name(last)}` : `${name(first)}${dash}${name(last)}`
    })
    .join(',')
}

const BYTE_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB']

/**
 * @param bytes a count of bytes, zero or more
 * @returns the count in the largest fitting binary unit, e.g. '512 B', '1.2 GiB', '412 MiB'
 */
export function formatBytes(bytes: number): string {
  let value = bytes
  let unit = 0
  // 1023.5 would round to '1024', which is one of the next unit.
  while (value >= 1023.5 && unit < BYTE_UNITS.length - 1) {
    value /= 1024
    unit++
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1
  return `${value.toFixed(digits)} ${BYTE_UNITS[unit]}`
}

/**
 * @param bytesPerSecond bytes in one second, zero or more
 * @returns e.g. '412 MiB/s'
 */
export function formatRate(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`
}

/**
 * @param ms a span in milliseconds, zero or more
 * @returns e.g. '850 ms', '12.3 s', '4 min 05 s', '2 h 10 min'; hours are never folded into days
 */
export function formatDuration(ms: number): string {
  // Each unit rounds before it is chosen, so that 59.96 s reads '1 min 00 s' and never '60.0 s'.
  if (Math.round(ms) < 1000) return `${Math.round(ms)} ms`
  if (Math.round(ms / 100) < 600) return `${(ms / 1000).toFixed(1)} s`
  const seconds = Math.round(ms / 1000)
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${twoDigits(seconds % 60)} s`
  const minutes = Math.round(ms / 60_000)
  return `${Math.floor(minutes / 60)} h ${twoDigits(minutes % 60)} min`
}

/**
 * @param date a moment
 * @returns that moment in the process's time zone, in a form PostgreSQL reads back: '2026-03-01 14:05:09+02'
 *   (or '+05:30' where the offset has minutes)
 */
export function formatTime(date: Date): string {
  const day = [date.getFullYear(), twoDigits(date.getMonth() + 1), twoDigits(date.getDate())].join('-')
  const time = [date.getHours(), date.getMinutes(), date.getSeconds()].map(twoDigits).join(':')
  const offset = -date.getTimezoneOffset()
  const hours = twoDigits(Math.floor(Math.abs(offset) / 60))
  const minutes = Math.abs(offset) % 60
  return `${day} ${time}${offset < 0 ? '-' : '+'}${hours}${minutes === 0 ? '' : `:${twoDigits(minutes)}`}`
}

/**
 * @param ms how long ago something was, in milliseconds; negative (a clock that went back) counts as zero
 * @returns the age in one whole unit, rounded down: '40 s', '12 min', '26 h', '3 days'. Hours go on to 48,
 *   because a daily backup is judged by whether it is 23 or 26 hours old.
 */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000))
  if (seconds < 60) return `${seconds} s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`
  return `${Math.floor(seconds / 86_400)} days`
}

/** @returns e.g. '1 segment', '2 segments' */
export function formatCount(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`
}

function twoDigits(value: number): string {
  return String(value).padStart(2, '0')
}

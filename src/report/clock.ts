const DAY = 24 * 60 * 60_000

/** Tells moments, which are milliseconds since 1970, in one time zone. */
export class Clock {
  readonly zone: string
  readonly #format: Intl.DateTimeFormat

  /** @param zone a name of IANA's time zones */
  constructor(zone: string) {
    this.zone = zone
    this.#format = new Intl.DateTimeFormat('en', {
      timeZone: zone,
      hourCycle: 'h23',
      ...{ year: 'numeric', month: 'numeric', day: 'numeric' },
      ...{ hour: 'numeric', minute: 'numeric', second: 'numeric' },
    })
  }

  /** How far the zone is ahead of UTC at a moment, milliseconds. */
  offset(at: number): number {
    const part: Record<string, number> = {}
    for (const { type, value } of this.#format.formatToParts(at)) part[type] = Number(value)
    const { year, month, day, hour, minute, second } = part
    return Date.UTC(year!, month! - 1, day!, hour!, minute!, second!) - Math.floor(at / 1000) * 1000
  }

  /** `2026-11-22 14:05` */
  minute(at: number): string {
    return this.#local(at).slice(0, 16)
  }

  /** As PostgreSQL reads it back: `2026-11-22 14:05:09+01`. */
  second(at: number): string {
    return `${this.#local(at).slice(0, 19)}${this.offsetText(at)}`
  }

  /** `2026-11-22` */
  day(at: number): string {
    return this.#local(at).slice(0, 10)
  }

  /** `14:05` */
  time(at: number): string {
    return this.#local(at).slice(11, 16)
  }

  /** Day of the week from Monday on, 0 to 6. */
  weekday(at: number): number {
    return (new Date(at + this.offset(at)).getUTCDay() + 6) % 7
  }

  /** `+01`, `-03:30` */
  offsetText(at: number): string {
    const minutes = Math.round(this.offset(at) / 60_000)
    const [hours, rest] = [Math.floor(Math.abs(minutes) / 60), Math.abs(minutes) % 60]
    const two = (value: number) => String(value).padStart(2, '0')
    return `${minutes < 0 ? '-' : '+'}${two(hours)}${rest === 0 ? '' : `:${two(rest)}`}`
  }

  /** When the day began in which a moment lies. */
  midnight(at: number): number {
    const local = Math.floor((at + this.offset(at)) / DAY) * DAY
    // The offset may be another one at that moment.
    const guess = local - this.offset(at)
    return local - this.offset(guess)
  }

  /** When the day begins that lies some days after the one of a moment. */
  daysAfter(at: number, days: number): number {
    return this.midnight(this.midnight(at) + days * DAY + DAY / 2)
  }

  #local(at: number): string {
    return new Date(at + this.offset(at)).toISOString().replace('T', ' ')
  }
}

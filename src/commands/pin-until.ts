import { PgrecallError } from '../errors.ts'
import { parseMoment } from '../restore/target.ts'
import { endOfDay } from '../retention/calendar.ts'

/** What is later has five digits for its year in ISO 8601, which nobody would read. */
const LAST = new Date('9999-12-31T00:00:00Z')

/**
 * Until when a pin lasts: a day, to its end, or a moment as `restore --time` takes it.
 * @param timeZone in which the day is one
 * @throws PgrecallError `usage` for what is none, is over, or is later than the year 9999
 */
export function pinEnd(text: string, timeZone: string, now: Date): Date {
  // It also refuses days that do not exist.
  const moment = Number(parseMoment(text) / 1000n)
  const until = /^\s*\d{4}-\d{2}-\d{2}\s*$/.test(text) ? endOfDay(text.trim(), timeZone) : new Date(moment)
  if (until > LAST) {
    throw new PgrecallError('usage', `--until ${text} is too far away`, {
      hint: 'without --until the backup stays for good',
    })
  }
  if (until > now) return until
  throw new PgrecallError('usage', `--until ${text} is over already`, {
    hint: 'name a day or a moment to come; without --until the backup stays for good',
  })
}

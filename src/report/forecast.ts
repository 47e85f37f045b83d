import type { Catalog } from '../catalog/catalog.ts'
import type { Situation } from '../retention/holds.ts'
import { planRetention } from '../retention/plan.ts'
import { hasBackupRule, type RetentionRules } from '../retention/rules.ts'
import type { Clock } from './clock.ts'
import { KINDS, type Kind } from './history.ts'
import { type Beat, carriedOn, rhythmOf } from './rhythm.ts'

/** What retention is going to do in the next weeks, as far as that is known now. */
export interface Forecast {
  /** How often backups come, by which it reckons; none where they are too few. */
  rhythm: Beat[]
  days: number
  /** How often retention is reckoned to run. */
  everyDays: number
  removals: Removal[]
  /** How many of those that are stored now are left then. */
  left: number
  /** Why nothing is told: there is no rule, or the archive cannot be planned for. */
  silent?: string
}

/** What goes on a day. */
export interface Removal {
  /** Midnight of the day, milliseconds since 1970; of the first one, now. */
  at: number
  backups: { id: string; kind: Kind; storedBytes: number; reason: string }[]
}

const DAYS = 28
/** With so many backups, each plan takes a good part of a second. */
const MANY = 2000

/**
 * Asks the very plan that `retention` carries out what it would do now and on each of the next days, or weeks, if backups went on
 * as they did. Pure.
 */
export function forecastOf(
  catalog: Catalog,
  rules: RetentionRules,
  situation: Situation,
  clock: Clock,
): Forecast {
  const now = situation.now.getTime()
  const nothing = {
    rhythm: [],
    days: DAYS,
    everyDays: 1,
    removals: [],
    left: catalog.backups.length + catalog.logical.length,
  }
  if (!hasBackupRule(rules) && rules.logical === undefined)
    return { ...nothing, silent: 'No retention rule is configured, so everything stays.' }
  const rhythm = rhythmOf(catalog, now)
  const stored = new Set([...catalog.backups, ...catalog.logical].map(({ id }) => id))
  const everyDays = stored.size > MANY ? 7 : 1
  const removals: Removal[] = []
  for (let day = 0; day <= DAYS; day += everyDays) {
    const at = day === 0 ? now : clock.daysAfter(now, day)
    const then = day === 0 ? catalog : carriedOn(catalog, stored, rhythm, now, at)
    const plan = planRetention(then, rules, { ...situation, now: new Date(at) })
    const going = [...plan.backups, ...plan.logical].filter(({ id, stays }) => !stays && stored.delete(id))
    const backups = going.map(({ id, storedBytes, reason }) => ({
      id,
      kind: kindOf(id),
      storedBytes,
      reason,
    }))
    if (backups.length > 0) removals.push({ at, backups })
  }
  return { rhythm, days: DAYS, everyDays, removals, left: stored.size }
}

/** A consolidated backup is a full one, whatever its id ends with. */
const kindOf = (id: string): Kind => KINDS.find((kind) => id.endsWith(`-${kind}`)) ?? 'full'

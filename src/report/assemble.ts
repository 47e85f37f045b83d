import type { Catalog } from '../catalog/catalog.ts'
import type { Situation } from '../retention/holds.ts'
import type { RetentionRules } from '../retention/rules.ts'
import type { Finding, RepositoryFacts } from '../status/facts.ts'
import type { Clock } from './clock.ts'
import type { RepositoryReport } from './facts.ts'
import { forecastOf } from './forecast.ts'
import { growthOf } from './growth.ts'
import { historyOf } from './history.ts'
import { spansOfWindows } from './recoverable.ts'

/** What was found out about a cluster in one repository. */
export interface Found {
  facts: RepositoryFacts
  findings: Finding[]
  /** Undefined where it could not be read. */
  catalog: Catalog | undefined
  situation: Situation
}

/** Works out all that is told of a repository from what was found in it. Pure. */
export function assembleRepository(
  { facts, findings, catalog, situation }: Found,
  rules: RetentionRules,
  clock: Clock,
): RepositoryReport {
  if (!catalog) return { facts, findings, stored: undefined }
  const now = situation.now.getTime()
  const unusable = new Set(facts.unusable.map(({ id }) => id))
  const stored = {
    catalog,
    history: historyOf(catalog, spansOfWindows(facts.windows), unusable, now),
    growth: growthOf(catalog, now, clock),
    forecast: forecastOf(catalog, rules, situation, clock),
    pins: pinTexts(situation),
  }
  return { facts, findings, stored }
}

function pinTexts({ pinned = [], now }: Situation): Map<string, string> {
  return new Map(
    pinned
      .filter(({ until }) => until === undefined || until > now)
      .map(({ backup, reason }) => [backup, `pinned: ${reason}`]),
  )
}

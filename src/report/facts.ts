import type { Catalog } from '../catalog/catalog.ts'
import type { Finding, RepositoryFacts } from '../status/facts.ts'
import type { Forecast } from './forecast.ts'
import type { Growth } from './growth.ts'
import type { History } from './history.ts'

/** All that a report tells. */
export interface Report {
  now: Date
  /** Which pgrecall made it. */
  version: string
  clusters: ClusterReport[]
}

export interface ClusterReport {
  cluster: string
  /** Where its times are told: a name of IANA's time zones. */
  timeZone: string
  /** About the server and its archiver. */
  findings: Finding[]
  /** Of everything that would make the next backup or restore fail. */
  checks: Finding[]
  repositories: RepositoryReport[]
}

export interface RepositoryReport {
  facts: RepositoryFacts
  findings: Finding[]
  /** What is stored; undefined where it could not be read. */
  stored:
    | {
        catalog: Catalog
        history: History
        growth: Growth
        forecast: Forecast
        /** By the backup's id; who wants it to stay. */
        pins: ReadonlyMap<string, string>
      }
    | undefined
}

import type { Finding, Window } from '../status/facts.ts'
import type { ClusterReport, RepositoryReport } from './facts.ts'

/** One look at a cluster. */
export interface Verdict {
  /** The worst of what was found; `fail` too where nothing can be recovered. */
  severity: Finding['severity']
  /** Whether it can be recovered: to any moment of some time, to what was dumped only, or not at all. */
  recoverable: 'moments' | 'dumps' | 'nothing'
  /** The stretch of time that reaches nearest to now, and where it is. */
  newest: { repository: string; window: Window } | undefined
  /** How many others there are in that repository. */
  others: number
  /** All findings that are not ok, the worst first, each once. */
  wrong: Finding[]
}

const WEIGHTS = { fail: 0, warn: 1, ok: 2 } as const

/** Pure. */
export function verdictOf({ findings, checks, repositories }: ClusterReport): Verdict {
  const newest = repositories
    .flatMap(({ facts }) =>
      newestWindow(facts.windows, facts.currentTimeline).map((window) => ({ facts, window })),
    )
    // Of equal ends, what goes back farther.
    .toSorted(
      (a, b) =>
        compare(b.window.to.time, a.window.to.time) || compare(a.window.from.time, b.window.from.time),
    )[0]
  const hasDump = repositories.some(({ stored }) => (stored?.catalog.logical.length ?? 0) > 0)
  const recoverable = newest ? 'moments' : hasDump ? 'dumps' : 'nothing'
  const wrong = ordered(
    [...findings, ...checks, ...repositories.flatMap(named)].filter(({ severity }) => severity !== 'ok'),
  )
  return {
    severity: recoverable === 'nothing' ? 'fail' : (wrong[0]?.severity ?? 'ok'),
    recoverable,
    newest: newest && { repository: newest.facts.repository, window: newest.window },
    others: newest ? newest.facts.windows.length - 1 : 0,
    wrong,
  }
}

/** The worst first; what is as bad stays in order. */
export const ordered = (findings: readonly Finding[]) =>
  findings.toSorted((a, b) => WEIGHTS[a.severity] - WEIGHTS[b.severity])

/** That of the timeline that goes on, else of any. */
function newestWindow(windows: readonly Window[], timeline: number | null): Window[] {
  const own = windows.filter((window) => window.timeline === timeline)
  const [newest] = (own.length > 0 ? own : windows).toSorted((a, b) => compare(b.to.time, a.to.time))
  return newest ? [newest] : []
}

/** Where there are several repositories, what is said of one has its name. */
function named(
  { facts, findings }: RepositoryReport,
  _index: number,
  all: readonly RepositoryReport[],
): Finding[] {
  if (all.length < 2) return findings
  return findings.map((finding) => ({
    ...finding,
    text: `repository "${facts.repository}": ${finding.text}`,
  }))
}

const compare = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)

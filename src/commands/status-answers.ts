import type { Finding } from '../status/facts.ts'
import type { Status } from '../status/take-status.ts'
import type { Thresholds } from '../status/thresholds.ts'

/** What was found of one cluster. */
export interface ClusterStatus {
  cluster: string
  status: Status
  limits: Thresholds
}

/** A finding with what it is about. */
export interface PlacedFinding extends Finding {
  cluster: string
  /** Undefined where it is about the server. */
  repository: string | undefined
}

/** Everything that there is to say, repository by repository, and then of each server. */
export function placedFindings(clusters: readonly ClusterStatus[]): PlacedFinding[] {
  const isOne = clusters.length === 1
  return clusters.flatMap(({ cluster, status }) => {
    const place = (finding: Finding, repository?: string) => ({
      ...finding,
      ...(finding.hint && { hint: isOne ? finding.hint : hintFor(cluster, finding.hint) }),
      cluster,
      repository,
    })
    return [
      ...status.repositories.flatMap(({ facts, findings }) =>
        findings.map((finding) => place(finding, facts.repository)),
      ),
      ...status.findings.map((finding) => place(finding)),
    ]
  })
}

/** Where there are several clusters, a command has to be told which is meant. */
const hintFor = (cluster: string, hint: string) =>
  hint.replace(/\bpgrecall (?=[a-z])/g, `pgrecall --cluster ${cluster} `)

const WEIGHTS = { fail: 0, warn: 1, ok: 2 } as const

/** What is not well, the worst first. */
export function problemsIn<Kind extends Finding>(findings: readonly Kind[]): Kind[] {
  return findings
    .filter(({ severity }) => severity !== 'ok')
    .toSorted((a, b) => WEIGHTS[a.severity] - WEIGHTS[b.severity])
}

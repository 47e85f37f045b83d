import { loadCatalog } from '../catalog/catalog.ts'
import { readKeptPins } from '../catalog/kept-pin.ts'
import { readKnownDamage } from '../catalog/known-damage.ts'
import { livingPins } from '../catalog/pin.ts'
import type { Repository } from '../catalog/repository.ts'
import { reasonOf } from '../errors.ts'
import type { Situation } from '../retention/holds.ts'
import type { RetentionRules } from '../retention/rules.ts'
import type { Finding } from '../status/facts.ts'
import { type Status, type StatusContext, takeStatuses } from '../status/take-status.ts'
import { assembleRepository, type Found } from './assemble.ts'
import { Clock } from './clock.ts'
import type { ClusterReport, RepositoryReport } from './facts.ts'

/** A cluster that a report tells of, and by which means it is looked at. */
export interface ReportQuestion {
  cluster: string
  timeZone: string
  rules: RetentionRules
  context: StatusContext
  /** Everything that would make the next backup or restore fail. */
  lookOver: () => Promise<Finding[]>
}

/**
 * Looks at clusters: what status says of each, what is stored, who wants what of it to stay, and what check says. What cannot be
 * read is told in the report, and is no error.
 */
export async function gatherReport(questions: readonly ReportQuestion[]): Promise<ClusterReport[]> {
  const statuses = await takeStatuses(questions)
  const clusters: ClusterReport[] = []
  for (const [index, question] of questions.entries())
    clusters.push(await clusterReport(question, statuses[index]!))
  return clusters
}

async function clusterReport(question: ReportQuestion, status: Status): Promise<ClusterReport> {
  const { cluster, timeZone, rules, context } = question
  const clock = new Clock(timeZone)
  const repositories: RepositoryReport[] = []
  for (const [index, found] of status.repositories.entries()) {
    const stored = await storedIn(context.repositories[index]!, cluster, found, context)
    repositories.push(assembleRepository(stored, rules, clock))
  }
  return { cluster, timeZone, findings: status.findings, checks: await checksOf(question), repositories }
}

/** What status has just read is in the catalog that it wrote, where it may write. */
async function storedIn(
  { storage }: Repository,
  cluster: string,
  { facts, findings }: Status['repositories'][number],
  { now, signal }: StatusContext,
): Promise<Found> {
  const situation: Situation = { now: now(), readers: [] }
  if (facts.error !== null) return { facts, findings, catalog: undefined, situation }
  try {
    const catalog = await loadCatalog(storage, cluster, { believing: true })
    const readers = await livingPins(storage, cluster, situation.now)
    const pinned = await readKeptPins(storage, cluster)
    const damage = await readKnownDamage(storage, catalog)
    return { facts, findings, catalog, situation: { ...situation, readers, pinned, damage } }
  } catch (error) {
    signal.throwIfAborted()
    return { facts: { ...facts, error: reasonOf(error) }, findings, catalog: undefined, situation }
  }
}

async function checksOf({ lookOver, context }: ReportQuestion): Promise<Finding[]> {
  try {
    return await lookOver()
  } catch (error) {
    context.signal.throwIfAborted()
    const text = `what the next backup and restore need could not be looked at: ${reasonOf(error)}`
    return [{ severity: 'warn', subject: 'check', text }]
  }
}

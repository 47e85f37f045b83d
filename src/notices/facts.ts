/** Grows when a program that reads the facts could misunderstand them. */
export const FACTS_VERSION = 1

export type OutcomeWord = 'success' | 'warning' | 'failure'

/** What hooks and notices are told, as JSON. docs/hooks.md says what each key means. */
export interface NoticeFacts {
  version: typeof FACTS_VERSION
  /** The same for all that is told of one run. */
  run: string
  event: 'before' | 'after'
  operation: string
  cluster: string | null
  repositories: string[]
  host: string
  pgrecall: string
  /** ISO 8601, as all times. */
  startedAt: string
  finishedAt: string | null
  outcome: OutcomeWord | null
  exitCode: number | null
  error: { kind: string; message: string; hint: string | null } | null
  warnings: string[]
  /** As `--json` prints it. */
  result: unknown
  /** All that in one sentence. */
  text: string
}

/** When something is told: `after` is every outcome. */
export type Occasion = 'before' | 'after' | OutcomeWord

/** How an operation ended. */
export interface Ending {
  finishedAt: Date
  exitCode: number
  error: NoticeFacts['error']
  warnings: string[]
  result: unknown
}

/** What is known of a run before it begins. */
export type Beginning = Pick<
  NoticeFacts,
  'run' | 'operation' | 'cluster' | 'repositories' | 'host' | 'pgrecall'
> & { startedAt: Date }

/** The facts before an operation, or after it. An exit code other than 0 is a failure, whatever was done. */
export function factsOf({ startedAt, ...beginning }: Beginning, ending: Ending | undefined): NoticeFacts {
  const outcome = ending && outcomeOf(ending)
  return {
    version: FACTS_VERSION,
    ...beginning,
    event: ending ? 'after' : 'before',
    startedAt: startedAt.toISOString(),
    finishedAt: ending?.finishedAt.toISOString() ?? null,
    outcome: outcome ?? null,
    exitCode: ending?.exitCode ?? null,
    error: ending?.error ?? null,
    warnings: ending?.warnings ?? [],
    result: ending?.result ?? null,
    text: sentenceOf(beginning, ending),
  }
}

function outcomeOf({ exitCode, warnings }: Ending): OutcomeWord {
  if (exitCode !== 0) return 'failure'
  return warnings.length > 0 ? 'warning' : 'success'
}

function sentenceOf(
  { operation, cluster, host }: Omit<Beginning, 'startedAt'>,
  ending: Ending | undefined,
): string {
  const what = `pgrecall ${operation}${cluster === null ? '' : ` of cluster "${cluster}"`} on ${host}`
  if (!ending) return `${what} begins`
  const { exitCode, error, warnings } = ending
  if (error) return `${what} failed with exit code ${exitCode}: ${error.message}`
  if (exitCode !== 0) return `${what} ended with exit code ${exitCode}${because(warnings)}`
  return warnings.length === 0 ? `${what} succeeded` : `${what} succeeded, with warnings${because(warnings)}`
}

const because = (warnings: readonly string[]) => (warnings.length > 0 ? `: ${warnings.join('; ')}` : '')

/** Whether what is told on some occasions is told of these facts. */
export function isOccasion(on: readonly Occasion[], { event, outcome }: NoticeFacts): boolean {
  return on.includes(event) || (outcome !== null && on.includes(outcome))
}

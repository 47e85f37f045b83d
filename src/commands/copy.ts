import { parseCodec } from '../archive/codec.ts'
import { type CopyContext, type CopyJob, copyCluster, previewCopy } from '../copy/copy-cluster.ts'
import { exitCodeOf, PgrecallError } from '../errors.ts'
import type { CommandContext, Run } from './context.ts'
import { failureFacts, planFacts, planText, resultFacts, resultText } from './copy-text.ts'

export const run: Run = async ({ args, options }, context) => {
  const jobs = jobsOf(args, options, context)
  const { makeIfNew, events, signal, now } = context
  const surroundings = { makeIfNew, events, signal, now }
  const answers: Answer[] = []
  for (const job of jobs) {
    const answer = options.dryRun
      ? await preview(job, surroundings, context.view)
      : await copy(job, surroundings).catch((error) => failureOf(job, error, jobs.length, signal))
    answers.push(answer)
  }
  return {
    text: answers.map(({ text }) => text).join('\n\n'),
    json: answers.map(({ json }) => json),
    exitCode: answers.find(({ exitCode }) => exitCode !== 0)?.exitCode ?? 0,
  }
}

interface Answer {
  text: string
  json: unknown
  exitCode: number
}

async function preview(job: CopyJob, context: CopyContext, view: CommandContext['view']): Promise<Answer> {
  const plan = await previewCopy(job, context)
  return { text: planText(job, plan, view), json: planFacts(job, plan), exitCode: 0 }
}

async function copy(job: CopyJob, context: CopyContext): Promise<Answer> {
  const result = await copyCluster(job, context)
  const failure = result.failures[0]
  return {
    text: resultText(job, result),
    json: resultFacts(job, result),
    exitCode: failure ? exitCodeOf(failure.error) : 0,
  }
}

/** One cluster that fails does not keep the others from their copies. */
function failureOf(job: CopyJob, error: unknown, clusters: number, signal: AbortSignal): Answer {
  signal.throwIfAborted()
  if (clusters === 1 || !(error instanceof PgrecallError)) throw error
  return { ...failureFacts(job, error), exitCode: exitCodeOf(error) }
}

function jobsOf(ids: string[], options: Record<string, unknown>, context: CommandContext): CopyJob[] {
  const to = options.to as string
  const from = options.from as string | undefined
  const request = { ids, backups: !options.walOnly, wal: options.wal !== false, jobs: options.jobs as number }
  if (from === to) throw new PgrecallError('usage', `--from and --to are the same repository, "${to}"`)
  if (!request.backups && (ids.length > 0 || !request.wal)) {
    throw new PgrecallError(
      'usage',
      `--wal-only copies no backups, and leaves nothing to copy with ${ids.length > 0 ? 'ids' : '--no-wal'}`,
    )
  }
  if (!options.allClusters) {
    const { name } = context.cluster()
    return [{ cluster: name, ...request, level: levelOf(name, context), ...endsOf(name, from, to, context) }]
  }
  const clusters = context.clusters().filter((name) => sourceOf(name, from, to, context) !== undefined)
  if (clusters.length === 0) {
    throw new PgrecallError(
      'config',
      `no cluster has repository ${from === undefined ? 'to copy from' : `"${from}"`}`,
      {
        hint: 'see "repositories" of each cluster in the configuration',
      },
    )
  }
  return clusters.map((name) => ({
    cluster: name,
    ...request,
    level: levelOf(name, context),
    ...endsOf(name, from, to, context),
  }))
}

/** One of the cluster's own repositories. */
function sourceOf(cluster: string, from: string | undefined, to: string, context: CommandContext) {
  const own = context.repositoriesOf(cluster)
  return own.find(({ name }) => (from === undefined ? name !== to : name === from))
}

/** The destination, and a source that is named, may be any that is configured. */
export function endsOf(cluster: string, from: string | undefined, to: string, context: CommandContext) {
  const [destination] = context.repositoriesOf(cluster, [to])
  const source =
    sourceOf(cluster, from, to, context) ??
    (from === undefined ? undefined : context.repositoriesOf(cluster, [from])[0])
  if (source) return { from: source, to: destination! }
  throw new PgrecallError(
    'config',
    `cluster "${cluster}" has only repository "${to}", so there is none to copy from`,
    { hint: 'say with --from where its backups are' },
  )
}

export function levelOf(cluster: string, context: CommandContext): number {
  const codec = parseCodec(context.config().config.clusters[cluster]!.backup.compression)
  return typeof codec === 'object' && codec.method === 'zstd' ? codec.level : 1
}

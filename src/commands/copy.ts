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
  const clusters = context.clusters().filter((name) => hasBoth(name, from, to, context))
  if (clusters.length === 0) {
    throw new PgrecallError('config', `no cluster has repository "${to}" and another one to copy from`, {
      hint: 'name both under "repositories" of each cluster that is to be copied',
    })
  }
  return clusters.map((name) => ({
    cluster: name,
    ...request,
    level: levelOf(name, context),
    ...endsOf(name, from, to, context),
  }))
}

function hasBoth(cluster: string, from: string | undefined, to: string, context: CommandContext): boolean {
  const names = context.repositoriesOf(cluster).map(({ name }) => name)
  return names.includes(to) && (from === undefined ? names.length > 1 : names.includes(from))
}

function endsOf(cluster: string, from: string | undefined, to: string, context: CommandContext) {
  const repositories = context.repositoriesOf(cluster)
  const named = (wanted: string) => {
    const found = repositories.find(({ name }) => name === wanted)
    if (found) return found
    throw new PgrecallError('config', `cluster "${cluster}" has no repository "${wanted}"`, {
      hint: `it has ${repositories.map(({ name }) => name).join(', ')}`,
    })
  }
  const destination = named(to)
  const source = from === undefined ? repositories.find(({ name }) => name !== to) : named(from)
  if (source) return { from: source, to: destination }
  throw new PgrecallError(
    'config',
    `cluster "${cluster}" has only repository "${to}", so there is none to copy from`,
    {
      hint: 'name the other one under "repositories" of the cluster, with "required: false" where nothing but copy is to write to it',
    },
  )
}

function levelOf(cluster: string, context: CommandContext): number {
  const codec = parseCodec(context.config().config.clusters[cluster]!.backup.compression)
  return typeof codec === 'object' && codec.method === 'zstd' ? codec.level : 1
}

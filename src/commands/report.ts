import { open } from 'node:fs/promises'
import { resolve } from 'node:path'
import { lookOver } from '../checks/look-over.ts'
import { formatBytes } from '../cli/units.ts'
import { PgrecallError, reasonOf, systemCode } from '../errors.ts'
import { gatherReport, type ReportQuestion } from '../report/gather.ts'
import { REPORT_BEGIN, reportPage } from '../report/page.ts'
import { type Verdict, verdictOf } from '../report/verdict.ts'
import { hasBackupRule } from '../retention/rules.ts'
import type { Finding } from '../status/facts.ts'
import { thresholdsWith } from '../status/thresholds.ts'
import { checkQuestion } from './check-question.ts'
import type { CommandContext, Run } from './context.ts'
import { onlyLooking } from './only-looking.ts'
import { replaceFile } from './replace-file.ts'

/** A report names databases, hosts and buckets. */
const FOR_ITS_OWNER = 0o600
const STDOUT = '-'

/** Writes one page about all clusters of the configuration, unless one is named. */
export const run: Run = async ({ options }, context) => {
  const output = options.output as string
  if (output === STDOUT && options.json)
    throw new PgrecallError('usage', '--json and --output - exclude each other: both write to stdout')
  const file = resolve(context.cwd, output)
  // What would be refused is refused before all is looked at.
  if (output !== STDOUT && !options.force) await requireOwnReport(file)
  const clusters = await gatherReport(questionsOf(options, context))
  const page = reportPage({ now: context.now(), version: context.version, clusters })
  if (output === STDOUT) return { text: '', json: null, document: page }
  await replaceFile(file, page, FOR_ITS_OWNER)
  const verdicts = clusters.map((cluster) => ({ cluster: cluster.cluster, verdict: verdictOf(cluster) }))
  const bytes = Buffer.byteLength(page)
  return {
    text: [
      `Wrote ${file} (${formatBytes(bytes)}).`,
      ...verdicts.map(({ cluster, verdict }) => `Cluster "${cluster}": ${verdictText(verdict)}`),
    ].join('\n'),
    json: {
      file,
      bytes,
      clusters: verdicts.map(({ cluster, verdict: { newest, severity, recoverable, wrong } }) => ({
        ...{ cluster, severity, recoverable },
        repository: newest?.repository ?? null,
        from: newest?.window.from.time ?? null,
        to: newest?.window.to.time ?? null,
        wrong,
      })),
    },
  }
}

/** @throws PgrecallError `refused` where a file is there that is something else */
async function requireOwnReport(file: string): Promise<void> {
  const begin = Buffer.alloc(Buffer.byteLength(REPORT_BEGIN))
  try {
    await using handle = await open(file)
    await handle.read(begin, 0, begin.length, 0)
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return
    throw new PgrecallError('failed', `cannot write ${file}: ${reasonOf(error)}`, { cause: error })
  }
  if (begin.toString() === REPORT_BEGIN) return
  throw new PgrecallError('refused', `${file} is there already, and is not a report of pgrecall`, {
    hint: 'name another file, or say --force to replace it',
  })
}

function questionsOf(options: Record<string, unknown>, context: CommandContext): ReportQuestion[] {
  const isOne = options.cluster !== undefined || context.clusters().length === 0
  const repository = options.repository as string | undefined
  return (isOne ? [context.cluster().name] : context.clusters()).map((cluster) => {
    const narrowed = narrowedTo(cluster, context, repository)
    const { config } = narrowed.cluster()
    const timeZone = config.timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone
    return {
      cluster,
      timeZone,
      rules: { ...config.retention, timeZone },
      context: {
        repositories: narrowed.repositories(),
        connect: () => onlyLooking(narrowed).connect(),
        dataDirectory: config.dataDirectory,
        slot: config.wal.receive.slot,
        limits: thresholdsWith(config.status, hasBackupRule(config.retention)),
        events: context.events,
        signal: context.signal,
        now: context.now,
      },
      lookOver: async () => (await lookOver(checkQuestion(narrowed))).map(asStatusSays),
    }
  })
}

/** The same surroundings as if this cluster was the only one. */
function narrowedTo(name: string, context: CommandContext, repository: string | undefined): CommandContext {
  const named = repository === undefined ? undefined : [repository]
  return {
    ...context,
    cluster: () => ({ name, config: context.config().config.clusters[name]! }),
    repositories: () => context.repositoriesOf(name, named),
    connection: (of = name) => context.connection(of),
    connect: (of = name) => context.connect(of),
  }
}

function asStatusSays({
  subject,
  verdict,
  text,
  hint,
}: Awaited<ReturnType<typeof lookOver>>[number]): Finding {
  const severity = verdict === 'pass' ? 'ok' : verdict
  return { severity, subject, text, ...(hint !== undefined && { hint }) }
}

function verdictText({ newest, recoverable, wrong }: Verdict): string {
  const fails = wrong.filter(({ severity }) => severity === 'fail').length
  const counts =
    wrong.length === 0 ? 'nothing is wrong' : `${fails} failing, ${wrong.length - fails} to look at`
  if (!newest)
    return `${recoverable === 'dumps' ? 'only what was dumped' : 'nothing'} can be recovered; ${counts}`
  const { from, to } = newest.window
  return `any moment from ${from.time} to ${to.time} can be recovered; ${counts}`
}

import { resolve } from 'node:path'
import { asJson } from '../cli/report.ts'
import { EXIT_CODES, PgrecallError } from '../errors.ts'
import { hasBackupRule } from '../retention/rules.ts'
import { takeStatuses } from '../status/take-status.ts'
import { thresholdsWith } from '../status/thresholds.ts'
import type { CommandContext, Outcome, Run } from './context.ts'
import { onlyLooking } from './only-looking.ts'
import { replaceFile } from './replace-file.ts'
import { type ClusterStatus, placedFindings } from './status-answers.ts'
import { nagiosAnswer } from './status-nagios.ts'
import { prometheusText } from './status-prometheus.ts'
import { statusText } from './status-text.ts'

/** Says of all clusters, unless one is named, what can be recovered, how far the archive is behind, and what is wrong. */
export const run: Run = async ({ options }, context) => {
  const format = formatOf(options)
  const output = options.output as string | undefined
  const outcome = answer(format, await lookAtAll(options, context), {
    ...context,
    view: output === undefined ? context.view : { color: false, width: undefined },
  })
  if (output === undefined) return outcome
  const shown = outcome.document ?? (format === 'json' ? asJson(outcome.json, 2) : outcome.text)
  await replaceFile(resolve(context.cwd, output), shown)
  return { ...outcome, document: '' }
}

type Format = 'text' | 'json' | 'prometheus' | 'nagios'

/** @throws PgrecallError `usage` */
function formatOf({ json, format }: Record<string, unknown>): Format {
  if (json && format !== undefined && format !== 'json')
    throw new PgrecallError('usage', `--json and --format ${format} exclude each other`)
  return json ? 'json' : ((format as Format | undefined) ?? 'text')
}

async function lookAtAll(
  options: Record<string, unknown>,
  context: CommandContext,
): Promise<ClusterStatus[]> {
  const isOne = options.cluster !== undefined || context.clusters().length === 0
  const clusters = isOne ? [context.cluster().name] : context.clusters()
  const repository = options.repository as string | undefined
  const questions = clusters.map((cluster) => {
    const config = context.config().config.clusters[cluster]!
    return {
      cluster,
      context: {
        repositories: context.repositoriesOf(cluster, repository === undefined ? undefined : [repository]),
        connect: () => onlyLooking(context).connect(cluster),
        dataDirectory: config.dataDirectory,
        slot: config.wal.receive.slot,
        limits: thresholdsWith(config.status, hasBackupRule(config.retention)),
        events: context.events,
        signal: context.signal,
        now: context.now,
      },
    }
  })
  const statuses = await takeStatuses(questions)
  return questions.map(({ cluster, context: { limits } }, index) => ({
    cluster,
    status: statuses[index]!,
    limits,
  }))
}

function answer(
  format: Format,
  clusters: readonly ClusterStatus[],
  { now, view }: Pick<CommandContext, 'now' | 'view'>,
): Outcome {
  const json = clusters.flatMap(({ cluster, status }) =>
    // The server's part stands with each repository, so that one element says all of one copy.
    status.repositories.map(({ facts, findings }) => ({
      cluster,
      ...facts,
      server: status.server,
      findings: [...status.findings, ...findings],
    })),
  )
  const isFailing = placedFindings(clusters).some(({ severity }) => severity === 'fail')
  const exitCode = isFailing ? EXIT_CODES.problems.code : 0
  if (format === 'prometheus')
    // What is wrong stands in the metrics, and that they could be made is success.
    return { text: '', json, document: prometheusText(clusters, now()), exitCode: 0 }
  if (format === 'nagios') {
    const { text, exitCode: pluginCode } = nagiosAnswer(clusters)
    return { text, json, document: text, exitCode: pluginCode }
  }
  const text = statusText(clusters, { ...view, now: now() })
  return { text, json, ...(format === 'json' && { document: asJson(json, 2) }), exitCode }
}

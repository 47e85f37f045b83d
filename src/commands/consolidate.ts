import { formatBytes, formatCount, formatDuration } from '../cli/units.ts'
import { type Consolidation, consolidate } from '../consolidation/consolidate.ts'
import type { Run } from './context.ts'
import { failureFacts, failureText, inEachRepository } from './each-repository.ts'

export const run: Run = async ({ args, options }, context) => {
  const { name: cluster, config } = context.cluster()
  const asked = args[0] ?? 'latest'
  const request = {
    cluster,
    id: asked === 'latest' ? undefined : asked,
    jobs: (options.jobs as number | undefined) ?? config.backup.jobs,
    dryRun: options.dryRun === true,
    tool: { name: 'pgrecall', version: context.version },
  }
  const { events, signal, now } = context
  const { answers, exitCode } = await inEachRepository(context, async (repository) => {
    const begun = now().getTime()
    const result = await consolidate(request, { repository, events, signal, now })
    return { result, tookMs: now().getTime() - begun }
  })
  return {
    text: answers
      .map((answer) => {
        const text =
          'error' in answer ? failureText(answer.error) : textOf(answer.result.result, answer.result.tookMs)
        return answers.length === 1 ? text : `Repository "${answer.repository}":\n${text}`
      })
      .join('\n\n'),
    json: answers.map((answer) =>
      'error' in answer
        ? failureFacts(answer.repository, answer.error)
        : { repository: answer.repository, dryRun: request.dryRun, ...answer.result.result },
    ),
    exitCode,
  }
}

function textOf({ id, links, record, wasThere }: Consolidation, tookMs: number): string {
  if (wasThere) return `There is nothing to do: ${id} is a full backup already.`
  const stored = links.reduce((sum, { storedBytes }) => sum + storedBytes, 0)
  const chain = `${formatCount(links.length, 'link')}, ${links[0]!.id} to ${links.at(-1)!.id}, stored as ${formatBytes(stored)}`
  if (!record) return `Would make the full backup ${id} of ${chain}.`
  return [
    `Backup ${id} is complete: ${formatBytes(record.dataBytes)} in ${formatCount(record.files, 'file')}, stored as ${formatBytes(record.storedBytes)}, in ${formatDuration(tookMs)}.`,
    `It was made of ${chain}. They stay until "pgrecall retention" finds that nothing needs them.`,
  ].join('\n')
}

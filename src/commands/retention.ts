import { renderTable } from '../cli/table.ts'
import { formatBytes } from '../cli/units.ts'
import { PgrecallError } from '../errors.ts'
import { applyRetention, previewRetention } from '../retention/apply.ts'
import type { RetentionPlan } from '../retention/plan.ts'
import type { CommandContext, Run } from './context.ts'

export const run: Run = async ({ options }, context) => {
  const { name, config } = context.cluster()
  const full = (options.full as number | undefined) ?? config.retention.full
  if (full === undefined) {
    throw new PgrecallError('config', `cluster "${name}" has no retention rule, so everything stays`, {
      hint: 'set clusters.<name>.retention.full in the configuration, or say --full N',
    })
  }
  const results = []
  for (const repository of context.repositories()) {
    const surroundings = { repository, events: context.events, signal: context.signal, now: context.now }
    if (options.dryRun) {
      const plan = await previewRetention(name, { full }, surroundings)
      results.push({
        repository: repository.name,
        dryRun: true,
        ...jsonOf(plan),
        text: planText(plan, context, true),
      })
    } else {
      const { plan, ...done } = await applyRetention(name, { full }, surroundings)
      const summary = `Removed ${done.removedBackups} backups and ${done.removedWal} WAL files, ${formatBytes(done.freedBytes)}.`
      const text = `${planText(plan, context, false)}\n${summary}`
      results.push({ repository: repository.name, dryRun: false, ...jsonOf(plan), ...done, text })
    }
  }
  return {
    text: results.map((result) => `Repository "${result.repository}":\n${result.text}`).join('\n\n'),
    json: results.map(({ text: _text, ...result }) => result),
  }
}

function jsonOf({ walBefore, ...plan }: RetentionPlan) {
  return { ...plan, walBefore: walBefore === undefined ? null : String(walBefore) }
}

function planText(plan: RetentionPlan, { view }: CommandContext, isPreview: boolean): string {
  if (plan.backups.length === 0) return 'There are no backups, so nothing is removed.'
  const table = renderTable(
    [
      { title: 'Backup' },
      { title: 'Ends at' },
      { title: 'Stored', align: 'right' },
      { title: 'Verdict', style: (cell) => (cell === 'stays' ? 'green' : 'yellow') },
      { title: 'Why' },
    ],
    plan.backups.map(({ id, stopTime, storedBytes, stays, reason }) => [
      id,
      stopTime,
      formatBytes(storedBytes),
      stays ? 'stays' : 'goes',
      reason,
    ]),
    view,
  )
  const verb = isPreview ? 'would go' : 'goes'
  const wal = plan.wal.map(
    ({ timeline, first, last, segments, storedBytes }) =>
      `WAL of timeline ${timeline}, ${first} to ${last} (${segments} segments, ${formatBytes(storedBytes)}) ${verb}.`,
  )
  return [
    table,
    ...(wal.length > 0 ? wal : ['No WAL goes.']),
    ...plan.warnings.map((text) => `Warning: ${text}`),
  ].join('\n')
}

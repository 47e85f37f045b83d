import { renderTable } from '../cli/table.ts'
import { formatBytes, formatCount } from '../cli/units.ts'
import { PgrecallError } from '../errors.ts'
import { applyRetention, previewRetention, type RetentionResult } from '../retention/apply.ts'
import type { RetentionPlan } from '../retention/plan.ts'
import { hasBackupRule, type RetentionRules } from '../retention/rules.ts'
import type { CommandContext, Run } from './context.ts'
import { failureFacts, failureText, inEachRepository } from './each-repository.ts'
import { seconds } from './wal-text.ts'

export const run: Run = async ({ options }, context) => {
  const { name, config } = context.cluster()
  const rules: RetentionRules = {
    ...config.retention,
    timeZone: config.timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone,
    full: (options.full as number | undefined) ?? config.retention.full,
    logical: (options.logical as number | undefined) ?? config.retention.logical,
  }
  if (!hasBackupRule(rules) && (rules.wal ?? rules.logical) === undefined) {
    throw new PgrecallError('config', `cluster "${name}" has no retention rule, so everything stays`, {
      hint: 'set clusters.<name>.retention.full or .logical in the configuration, or say --full N or --logical N',
    })
  }
  const { answers, exitCode } = await inEachRepository(context, async (repository) => {
    const surroundings = { repository, events: context.events, signal: context.signal, now: context.now }
    if (options.dryRun) {
      const plan = await previewRetention(name, rules, surroundings)
      return { text: planText(plan, context, true), facts: { dryRun: true, ...jsonOf(plan) } }
    }
    const { plan, ...done } = await applyRetention(name, rules, surroundings)
    const text = `${planText(plan, context, false)}\n${summaryText(done)}`
    return { text, facts: { dryRun: false, ...jsonOf(plan), ...done } }
  })
  return {
    text: answers
      .map((answer) => {
        const text = 'error' in answer ? failureText(answer.error) : answer.result.text
        return `Repository "${answer.repository}":\n${text}`
      })
      .join('\n\n'),
    json: answers.map((answer) =>
      'error' in answer
        ? failureFacts(answer.repository, answer.error)
        : { repository: answer.repository, ...answer.result.facts },
    ),
    exitCode,
  }
}

/** More goes than the segments of the plan: the labels of backups, and what was noted beside a segment. */
function summaryText(done: Omit<RetentionResult, 'plan'>): string {
  const beside = done.removedWal - done.removedSegments
  const parts = [formatCount(done.removedBackups, 'backup'), formatCount(done.removedSegments, 'WAL segment')]
  if (beside > 0)
    parts.push(`${formatCount(beside, 'file')} beside ${done.removedSegments === 1 ? 'it' : 'them'}`)
  const removed = `Removed ${parts.slice(0, -1).join(', ')} and ${parts.at(-1)}: ${formatBytes(done.freedBytes)}.`
  const locked = done.lockedWal.map(({ timeline, name, lockedUntil }) => {
    const until = lockedUntil === null ? '' : ` until ${seconds(lockedUntil)}`
    return `WAL of timeline ${timeline} stays from ${name} on, which the store keeps locked${until}.`
  })
  return [removed, ...locked].join('\n')
}

function jsonOf({ walBefore, ...plan }: RetentionPlan) {
  return { ...plan, walBefore: walBefore === undefined ? null : String(walBefore) }
}

function planText(plan: RetentionPlan, { view }: CommandContext, isPreview: boolean): string {
  const rows = [
    ...plan.backups.map(({ stopTime, ...backup }) => rowOf(stopTime, backup)),
    ...plan.logical.map(({ finishedAt, ...backup }) => rowOf(finishedAt, backup)),
  ]
  if (rows.length === 0) return 'There are no backups, so nothing is removed.'
  const table = renderTable(
    [
      { title: 'Backup', whole: true },
      { title: 'Ends at', whole: true, leaveOut: 1 },
      { title: 'Stored', align: 'right' },
      { title: 'Verdict', style: (cell) => (cell === 'stays' ? 'green' : 'yellow') },
      { title: 'Why', whole: true },
    ],
    rows,
    view,
  )
  const verb = isPreview ? 'would go' : 'goes'
  const wal = plan.wal.map(
    ({ timeline, first, last, segments, storedBytes }) =>
      `WAL of timeline ${timeline}, ${first} to ${last} (${formatCount(segments, 'segment')}, ${formatBytes(storedBytes)}) ${verb}.`,
  )
  return [
    table,
    ...(wal.length > 0 ? wal : ['No WAL goes.']),
    ...plan.warnings.map((text) => `Warning: ${text}`),
  ].join('\n')
}

type Verdict = Pick<RetentionPlan['backups'][number], 'id' | 'storedBytes' | 'stays' | 'reason'>

const rowOf = (end: string, { id, storedBytes, stays, reason }: Verdict) => [
  id,
  seconds(end),
  formatBytes(storedBytes),
  stays ? 'stays' : 'goes',
  reason,
]

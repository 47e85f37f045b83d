import { renderTable } from '../cli/table.ts'
import { formatBytes, formatCount } from '../cli/units.ts'
import { wrapped } from '../cli/wrap.ts'
import type { RetentionResult } from '../retention/apply.ts'
import type { RetentionPlan } from '../retention/plan.ts'
import type { RecoveryChange, RecoveryWindow } from '../retention/recovery.ts'
import type { Wish } from '../retention/rules.ts'
import type { CommandContext } from './context.ts'
import { seconds, secondsFrom, secondsOf } from './wal-text.ts'

type View = CommandContext['view']

/** What is going to be done, for a person: of each backup whether it stays and why, and what that means. */
export function planText(
  plan: RetentionPlan,
  { view }: Pick<CommandContext, 'view'>,
  isPreview: boolean,
): string {
  const rows = [
    ...plan.backups.map(({ stopTime, ...backup }) => rowOf(secondsFrom(stopTime), backup)),
    ...plan.logical.map(({ finishedAt, ...backup }) => rowOf(seconds(finishedAt), backup)),
  ]
  if (rows.length === 0) return 'There are no backups, so nothing is removed.'
  const verdicts = renderTable(
    [
      { title: 'Backup', whole: true },
      { title: 'Ends at', whole: true, leaveOut: 1 },
      { title: 'Stored', align: 'right' },
      { title: 'Verdict', style: (cell) => (cell === 'stays' ? 'green' : 'yellow') },
      { title: 'Why', wraps: true },
    ],
    rows,
    view,
  )
  return [
    verdicts,
    ...walText(plan, isPreview),
    ...recoveryText(plan.recovery, view),
    ...plan.warnings.flatMap((text) => wrapped(`Warning: ${text}`, 0, view.width)),
    ...(isPreview ? [freedText(plan)] : []),
  ].join('\n')
}

/** The same for programs. */
export function planFacts({ walBefore, ...plan }: RetentionPlan) {
  return { ...plan, walBefore: walBefore === undefined ? null : String(walBefore) }
}

/** More goes than the segments of the plan: the labels of backups, and what was noted beside a segment. */
export function summaryText(done: Omit<RetentionResult, 'plan'>): string {
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

type Verdict = Pick<RetentionPlan['backups'][number], 'id' | 'storedBytes' | 'stays' | 'reason' | 'wishes'>

const rowOf = (end: string, { id, storedBytes, stays, reason, wishes }: Verdict) => [
  id,
  end,
  formatBytes(storedBytes),
  stays ? 'stays' : 'goes',
  wishes.length > 0 ? wishes.map(wishText).join('; ') : reason,
]

/** Rules whose name does not stand in their words. */
const UNNAMED: readonly Wish['rule'][] = ['full', 'diff', 'incr', 'window', 'minimum', 'logical']

const wishText = ({ rule, text }: Wish) => (UNNAMED.includes(rule) ? `${rule}: ${text}` : text)

/** A line for each timeline: of archives that are thinned out there may be thousands of runs. */
function walText({ wal }: RetentionPlan, isPreview: boolean): string[] {
  if (wal.length === 0) return ['No WAL goes.']
  const timelines = Map.groupBy(wal, ({ timeline }) => timeline)
  return [...timelines].map(([timeline, runs]) => {
    const segments = runs.reduce((sum, run) => sum + run.segments, 0)
    const bytes = runs.reduce((sum, run) => sum + run.storedBytes, 0)
    const pieces = runs.length === 1 ? '' : `${runs.length} stretches, `
    const size = `${pieces}${formatCount(segments, 'segment')}, ${aboutIf(runs)}${formatBytes(bytes)}`
    return `WAL of timeline ${timeline}, ${runs[0]!.first} to ${runs.at(-1)!.last} (${size}) ${isPreview ? 'would go' : 'goes'}.`
  })
}

/** To where one can go back, before and after. */
function recoveryText(recovery: readonly RecoveryChange[], view: View): string[] {
  const rows = recovery.flatMap(({ timeline, before, after }) => {
    const isSame = JSON.stringify(before) === JSON.stringify(after)
    const sides: [string, readonly RecoveryWindow[]][] = isSame
      ? [['unchanged', before]]
      : [
          ['before', before],
          ['after', after],
        ]
    return sides.flatMap(([when, windows]) =>
      windowRows(windows).map((row) => [String(timeline), when, ...row]),
    )
  })
  if (rows.length === 0) return []
  const table = renderTable(
    [
      { title: 'Timeline', align: 'right' },
      { title: 'Recovery', whole: true, style: (cell) => (cell === 'after' ? 'bold' : undefined) },
      { title: 'From', whole: true },
      { title: 'To', whole: true },
      { title: 'Which moments', whole: true },
    ],
    rows,
    view,
  )
  return ['', table, '']
}

/** Single ends of backups, of which there may be many, are one row. */
function windowRows(windows: readonly RecoveryWindow[]): string[][] {
  if (windows.length === 0) return [['-', '-', 'none']]
  const ends = windows.filter(({ until }) => until === undefined)
  const single = ends.length === 1 ? 'the end of a backup' : `the ends of ${ends.length} backups`
  const rows = [
    ...(ends.length > 0 ? [[secondsFrom(ends[0]!.from), secondsFrom(ends.at(-1)!.from), single]] : []),
    ...windows.flatMap(({ from, until }) =>
      until === undefined ? [] : [[...secondsOf(from, until), 'any moment']],
    ),
  ]
  return rows.toSorted(([a], [b]) => (a! < b! ? -1 : a! > b! ? 1 : 0))
}

/** What of a run goes is known as a share of its bytes. */
const aboutIf = (wal: RetentionPlan['wal']) => (wal.some(({ isShare }) => isShare) ? 'about ' : '')

function freedText({ frees, wal: runs }: RetentionPlan): string {
  const about = aboutIf(runs)
  const backups = `${formatCount(frees.backups, 'backup')} (${formatBytes(frees.backupBytes)})`
  const wal = `${formatCount(frees.segments, 'WAL segment')} (${about}${formatBytes(frees.walBytes)})`
  return `Would remove ${backups} and ${wal}: ${about}${formatBytes(frees.backupBytes + frees.walBytes)}.`
}

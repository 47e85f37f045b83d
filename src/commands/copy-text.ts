import type { BackupSummary } from '../catalog/backup-record.ts'
import type { LogicalSummary } from '../catalog/logical-record.ts'
import { renderTable } from '../cli/table.ts'
import { formatBytes, formatCount } from '../cli/units.ts'
import type { CopyJob, CopyResult } from '../copy/copy-cluster.ts'
import type { CopyPlan, CopyVerdict, StoredWal } from '../copy/plan.ts'
import type { LogicalCopyVerdict } from '../copy/plan-logical.ts'
import { type PgrecallError, reasonOf } from '../errors.ts'
import type { CommandContext } from './context.ts'
import { seconds, secondsFrom } from './wal-text.ts'

/** What would be copied, as a table. */
export function planText(job: CopyJob, plan: CopyPlan, view: CommandContext['view']): string {
  const sections = [
    ...(plan.backups.length + plan.logical.length > 0
      ? [backupTable([...plan.backups, ...plan.logical], view)]
      : []),
    ...walByTimeline(plan.wal).map((files) => `${stretchText(files)} would be copied.`),
    ...(plan.steps.length === 0 ? [nothingText(job)] : []),
    ...plan.warnings.map((text) => `Warning: ${text}`),
  ]
  return `${titleOf(job)}\n${sections.join('\n')}`
}

type Verdict = CopyVerdict | LogicalCopyVerdict

function backupTable(verdicts: readonly Verdict[], view: CommandContext['view']): string {
  const ofBackup = ({ backup }: Verdict) =>
    'storedBytes' in backup ? [endOf(backup), formatBytes(backup.storedBytes)] : ['', '']
  return renderTable(
    [
      { title: 'Backup', whole: true },
      { title: 'Ends at', whole: true, leaveOut: 1 },
      { title: 'Stored', align: 'right' },
      { title: 'Verdict', style: (cell) => (({ copy: 'green', left: 'yellow' }) as const)[cell] },
      { title: 'Why' },
    ],
    verdicts.map((each) => [each.backup.id, ...ofBackup(each), each.verdict, reasonFor(each)]),
    view,
  )
}

const endOf = (backup: BackupSummary | LogicalSummary) =>
  backup.method === 'logical' ? seconds(backup.finishedAt) : secondsFrom(backup.stop.time)

function reasonFor(each: Verdict): string {
  if (each.verdict === 'left') return each.reason
  if (each.verdict === 'there') return 'is there already'
  return !('neededBy' in each) || each.neededBy === undefined
    ? 'is not there yet'
    : `needed by ${each.neededBy}`
}

/** What was done. */
export function resultText(
  job: CopyJob,
  { plan, backups, walFiles, walBytes, failures }: CopyResult,
): string {
  const lines = [titleOf(job)]
  const bytes = backups.reduce((sum, { storedBytes }) => sum + storedBytes, 0)
  const resumed = backups.reduce((sum, { resumedBytes }) => sum + resumedBytes, 0)
  if (plan.steps.length === 0) lines.push(nothingText(job))
  else
    lines.push(
      `Copied ${formatCount(backups.length, 'backup')} (${formatBytes(bytes)}) and ${formatCount(walFiles, 'WAL file')} (${formatBytes(walBytes)}).`,
    )
  if (resumed > 0)
    lines.push(`Of this, ${formatBytes(resumed)} had been copied by the run that was interrupted.`)
  for (const { what, error } of failures) lines.push(`NOT copied: ${what}: ${reasonOf(error)}`)
  return lines.join('\n')
}

const titleOf = ({ cluster, from, to }: CopyJob) =>
  `Cluster "${cluster}", from repository "${from.name}" to "${to.name}":`

const nothingText = ({ to }: CopyJob) => `Nothing to copy: "${to.name}" lacks nothing that can be copied.`

const stretchText = (files: readonly StoredWal[]) => {
  const [first, last] = [files[0]!.file, files.at(-1)!.file]
  const names = files.length === 1 ? first.name : `${first.name} to ${last.name}`
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0)
  return `WAL of timeline ${first.timeline}, ${names} (${formatCount(files.length, 'file')}, ${formatBytes(bytes)})`
}

function walByTimeline(wal: readonly StoredWal[]): StoredWal[][] {
  return [...Map.groupBy(wal, ({ file }) => file.timeline)]
    .toSorted(([a], [b]) => a - b)
    .map(([, files]) => files)
}

export function planFacts(job: CopyJob, plan: CopyPlan) {
  return { ...endsOf(job), dryRun: true, ...verdictsOf(plan), warnings: plan.warnings }
}

export function resultFacts(job: CopyJob, { plan, failures, ...done }: CopyResult) {
  return {
    ...endsOf(job),
    dryRun: false,
    ...verdictsOf(plan),
    warnings: plan.warnings,
    copied: done,
    failures: failures.map(({ what, error }) => ({ what, kind: error.kind, reason: reasonOf(error) })),
  }
}

export function failureFacts(job: CopyJob, error: PgrecallError) {
  const hint = error.hint ? `\n${error.hint}` : ''
  return {
    text: `${titleOf(job)}\nIt failed: ${reasonOf(error)}${hint}`,
    json: { ...endsOf(job), error: { kind: error.kind, message: reasonOf(error), hint: error.hint ?? null } },
  }
}

const endsOf = ({ cluster, from, to }: CopyJob) => ({ cluster, from: from.name, to: to.name })

function verdictsOf({ backups, logical, wal }: CopyPlan) {
  return {
    backups: backups.map(({ backup: { id }, ...verdict }) => ({ id, ...verdict })),
    logical: logical.map(({ backup: { id }, ...verdict }) => ({ id, ...verdict })),
    wal: walByTimeline(wal).map((files) => ({
      timeline: files[0]!.file.timeline,
      first: files[0]!.file.name,
      last: files.at(-1)!.file.name,
      files: files.length,
      storedBytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    })),
  }
}

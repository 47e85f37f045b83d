import { isWhole, type LogicalSummary } from '../catalog/logical-record.ts'
import { choiceText, selectionText } from '../catalog/selection-text.ts'
import { renderTable } from '../cli/table.ts'
import { formatBytes } from '../cli/units.ts'
import type { CommandContext } from './context.ts'
import { seconds } from './wal-text.ts'

/** The logical backups of a repository as a table. */
export function logicalTable(backups: readonly LogicalSummary[], view: CommandContext['view']): string {
  const hasLabel = backups.some(({ label }) => label !== '')
  const hasSelection = backups.some((backup) => !isWhole(backup))
  return renderTable(
    [
      { title: 'Logical backup', style: 'bold', whole: true },
      { title: 'Taken at', whole: true, leaveOut: 2 },
      { title: 'Dumped', align: 'right', leaveOut: 0 },
      { title: 'Stored', align: 'right', leaveOut: 3 },
      { title: 'Databases' },
      ...(hasSelection ? [{ title: 'Selection', leaveOut: 1 }] : []),
      ...(hasLabel ? [{ title: 'Label' }] : []),
    ],
    backups.map((backup) => [
      backup.id,
      takenAt(backup),
      formatBytes(backup.dumpedBytes),
      formatBytes(backup.storedBytes),
      databasesText(backup),
      ...(hasSelection ? [partText(backup)] : []),
      ...(hasLabel ? [backup.label] : []),
    ]),
    view,
  )
}

/** What a backup of a part was asked for. */
function partText(backup: LogicalSummary): string {
  const { choice, selection, hasGlobals } = backup
  const texts = [
    ...(choice ? [choiceText(choice)] : []),
    ...(selection ? [selectionText(selection)] : []),
    ...(hasGlobals ? [] : ['without roles']),
  ]
  return texts.join(' ') || '-'
}

/** The snapshot of its first database; of one script, which tells no moments, the backup's begin. */
function takenAt({ databases, startedAt }: LogicalSummary): string {
  const moments = databases.map(({ time }) => time).toSorted()
  return seconds(moments[0] ?? startedAt)
}

function databasesText({ form, databases }: LogicalSummary): string {
  return databases.length === 0 && form === 'script' ? 'all' : databases.map(({ name }) => name).join(', ')
}

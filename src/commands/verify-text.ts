import { renderTable } from '../cli/table.ts'
import { formatBytes, formatCount, formatTime } from '../cli/units.ts'
import type { Damage } from '../verification/damage.ts'
import type { VerifiedBackup, VerifiedRepository } from '../verification/verified.ts'
import type { CommandContext } from './context.ts'
import { restoreProofText } from './verify-restore-text.ts'

const DAMAGED_SHOWN = 20
/** So many backups are listed that are sound; of more, only those that are not. */
const SOUND_SHOWN = 50

/** What came of looking at one repository, for people. @param repairs whether what is damaged was to be healed */
export function verifiedText(
  found: VerifiedRepository,
  view: CommandContext['view'],
  repairs: boolean,
): string {
  const parts = [
    ...(found.resumedFrom === undefined
      ? []
      : [
          `This went on with the run that was interrupted; it began at ${formatTime(new Date(found.resumedFrom))}.`,
        ]),
    backupsText(found, view),
    ...damageLines(found, repairs),
    totalText(found),
    ...remarksOn(found),
    ...found.backups.flatMap(({ id, restore }) =>
      restore ? [`\n${restoreProofText(id, restore, view)}`] : [],
    ),
  ]
  return parts
    .filter((part) => part !== '')
    .map((part) => part.trimEnd())
    .join('\n')
}

function backupsText({ backups, damaged }: VerifiedRepository, view: CommandContext['view']): string {
  if (backups.length === 0) return damaged.length > 0 ? '' : 'No backups yet; "pgrecall backup" takes one.'
  const isToShow = ({ faults, objects }: VerifiedBackup) =>
    faults.length > 0 || (objects > 0 && backups.length <= SOUND_SHOWN)
  const shown = backups.filter(isToShow)
  const healed = new Set(damaged.filter(({ mend }) => mend.outcome === 'healed').map(({ key }) => key))
  const others = backups.length - shown.length
  if (shown.length === 0) return `${formatCount(others, 'backup')} without a fault.`
  const more = others > 0 ? `\n${formatCount(others, 'more backup')} without a fault.` : ''
  const table = renderTable(
    [
      { title: 'Backup', whole: true },
      { title: 'Objects', align: 'right' },
      { title: 'Read', align: 'right' },
      { title: 'Verdict', style: (cell) => (cell === 'sound' || cell === 'healed' ? 'green' : 'red') },
    ],
    shown.map(({ id, objects, allObjects, bytes, faults }) => [
      id,
      objects === allObjects ? String(objects) : `${objects} of ${allObjects}`,
      formatBytes(bytes),
      verdictOf(faults.filter(({ key }) => !healed.has(key)).length, faults.length),
    ]),
    view,
  )
  return `${table}${more}`
}

function verdictOf(left: number, all: number): string {
  if (all === 0) return 'sound'
  return left === 0 ? 'healed' : formatCount(left, 'fault')
}

/** One line for what is wrong, one for what it costs, one for how it is mended. */
function damageLines({ damaged }: VerifiedRepository, repairs: boolean): string[] {
  if (damaged.length === 0) return []
  const lines = damaged
    .slice(0, DAMAGED_SHOWN)
    .flatMap(({ key, reason, consequence, mend }) => [
      `${key}: ${reason}`,
      `    costs: ${consequence.text}`,
      `    mend:  ${mendText(mend, repairs)}`,
    ])
  const more = damaged.length - DAMAGED_SHOWN
  return [' ', ...lines, ...(more > 0 ? [`and ${more} more: see --json`] : []), ' ']
}

function mendText({ outcome, text }: Damage['mend'], repairs: boolean): string {
  if (outcome === 'lost' && repairs) return `not healed: ${text}`
  return outcome === 'healable' ? `${text}: "pgrecall verify --repair" heals it` : text
}

function totalText({
  backups,
  wal,
  damaged,
  readBytes,
  totalBytes,
  neverBytes,
  oldestAt,
}: VerifiedRepository): string {
  const objects = backups.reduce((sum, backup) => sum + backup.objects, 0)
  const of = totalBytes === undefined ? '' : ` of ${formatBytes(totalBytes)}`
  const read = `Read ${formatBytes(readBytes)}${of}: ${formatCount(objects, 'object')} of backups, ${formatCount(wal.files, 'file')} of WAL`
  const healed = damaged.filter(({ mend }) => mend.outcome === 'healed').length
  const bad =
    damaged.length === 0
      ? 'nothing is damaged'
      : `${damaged.length} damaged${healed > 0 ? `, ${healed} of them healed` : ''}`
  const never =
    neverBytes !== undefined && neverBytes > 0 ? `${formatBytes(neverBytes)} were never found sound.` : ''
  const oldest =
    oldestAt === undefined ? '' : `What was read longest ago was read at ${formatTime(new Date(oldestAt))}.`
  return [`${read}; ${bad}.`, never, oldest].filter((text) => text !== '').join(' ')
}

function remarksOn({ backups, wal, undecoded }: VerifiedRepository): string[] {
  return [
    ...(wal.sizeOnly > 0
      ? [
          `Of ${formatCount(wal.sizeOnly, 'WAL file')} only the size was looked at: this host has no key that reads them.`,
        ]
      : []),
    ...(undecoded > 0
      ? [
          `Of ${formatCount(undecoded, 'object')} only the sum was compared: this host has no key that decodes them.`,
        ]
      : []),
    ...backups.flatMap(({ id, unlisted }) =>
      unlisted === undefined ? [] : [`The archives of ${id} were not opened: ${unlisted}.`],
    ),
  ]
}

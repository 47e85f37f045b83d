import { renderTable } from '../cli/table.ts'
import { formatCount, formatDuration } from '../cli/units.ts'
import type { ProvenPart, RestoreProof, Verdict } from '../verification/restore-proof.ts'
import type { CommandContext } from './context.ts'

const WORDS: Record<Verdict, string> = { restored: 'restored', differs: 'differs', unproven: 'not proven' }
const STYLES: Record<string, 'green' | 'red' | 'yellow'> = {
  restored: 'green',
  differs: 'red',
  'not proven': 'yellow',
}
const SHOWN = 10

/** What came of loading a backup into a scratch server, for people; its faults are told with those of the backup. */
export function restoreProofText(id: string, proof: RestoreProof, view: CommandContext['view']): string {
  const { verdict, server, tookMs, cluster, databases } = proof
  if (server === undefined) return `${id} was not restored: ${cluster.excuses[0]}.`
  const unproven = [
    { where: 'What belongs to no database', ...cluster },
    ...databases.map((database) => ({ where: `Database "${database.name}"`, ...database })),
  ].filter((part) => part.verdict === 'unproven')
  const table = renderTable(
    [
      { title: 'Database' },
      { title: 'Tables', align: 'right' },
      { title: 'Rows', align: 'right' },
      { title: 'Errors', align: 'right' },
      { title: 'Verdict', style: (cell) => STYLES[cell] },
    ],
    databases.map(({ name, tables, rows, errors, verdict: each }) => [
      name,
      String(tables),
      String(rows),
      String(errors),
      WORDS[each],
    ]),
    view,
  )
  const rows = databases.reduce((sum, database) => sum + database.rows, 0)
  const tables = databases.reduce((sum, database) => sum + database.tables, 0)
  const how = proof.isCompared ? ', compared with the fingerprints of the backup' : ''
  return [
    `${id}, loaded into a scratch server of PostgreSQL ${server} in ${formatDuration(tookMs)}: ${WORDS[verdict]}.`,
    table,
    `${formatCount(tables, 'table')}, ${formatCount(rows, 'row')}${how}.`,
    ...unproven.flatMap(({ where, ...part }) => unprovenLines(where, part)),
    ...databases.flatMap(({ name, remarks }) =>
      shownOf(remarks).map((text) => `Database "${name}": ${text} (no fault)`),
    ),
  ].join('\n')
}

function unprovenLines(where: string, { excuses, faults }: ProvenPart): string[] {
  return [`${where} is not proven:`, ...[...shownOf(excuses), ...shownOf(faults)].map((line) => `  ${line}`)]
}

function shownOf(lines: readonly string[]): string[] {
  const more = lines.length - SHOWN
  return [...lines.slice(0, SHOWN), ...(more > 0 ? [`and ${more} more: see --json`] : [])]
}

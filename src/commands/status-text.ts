import { renderTable } from '../cli/table.ts'
import { displayWidth, escapeControls, paint } from '../cli/terminal.ts'
import { formatAge } from '../cli/units.ts'
import type { Finding, RepositoryFacts, Window } from '../status/facts.ts'
import type { Status } from '../status/take-status.ts'
import { receivingText, seconds } from './wal-text.ts'

interface View {
  color: boolean
  width: number | undefined
  now: Date
}

/** What `status` says to a person: of each repository what can be recovered, then what there is to say about it. */
export function statusText(cluster: string, { repositories, findings }: Status, view: View): string {
  const parts = repositories.map(({ facts, findings: own }) => {
    const title = `Cluster "${cluster}" in repository "${facts.repository}" (${facts.location})`
    return [
      paint(escapeControls(title), 'bold', view.color),
      windowTable(facts, view),
      findingsText(own, view),
    ]
      .filter((part) => part !== '')
      .join('\n\n')
  })
  parts.push([paint('The server', 'bold', view.color), findingsText(findings, view)].join('\n\n'))
  return parts.join('\n\n')
}

function windowTable({ windows, receiving }: RepositoryFacts, view: View): string {
  // Of single ends there may be many; what is said below the table tells how many.
  const shown = windows.filter(({ isThinned }) => !isThinned)
  if (shown.length === 0) return ''
  const table = renderTable(
    [
      { title: 'Timeline', align: 'right' },
      { title: 'Recoverable from', whole: true },
      { title: 'To', whole: true },
      { title: 'Ago', align: 'right', leaveOut: 1 },
      { title: 'Backups', align: 'right' },
      { title: 'Ends with', style: (cell) => (cell === WHOLE ? undefined : 'red') },
    ],
    shown.map((window) => [
      String(window.timeline),
      fromText(window),
      `${window.to.isExact ? '' : '>= '}${toText(window)}`,
      formatAge(view.now.getTime() - Date.parse(window.to.time)),
      String(window.backups.length),
      window.cutBy === null ? WHOLE : CUT,
    ]),
    view,
  )
  return receiving ? `${table}\n${receivingText(receiving)}` : table
}

/** What a window ends with; which segments are missing is said below the table. */
const WHOLE = 'archive'
const CUT = 'gap'

const STYLES = { ok: 'green', warn: 'yellow', fail: 'red' } as const
const WEIGHTS = { fail: 0, warn: 1, ok: 2 } as const

/** What is worst stands first. */
function findingsText(findings: readonly Finding[], view: View): string {
  return findings
    .toSorted((a, b) => WEIGHTS[a.severity] - WEIGHTS[b.severity])
    .map(({ severity, text, hint }) => {
      const mark = paint(severity.padEnd(4), STYLES[severity], view.color)
      const lines = [...wrapped(text, view.width), ...(hint ? wrapped(hint, view.width) : [])]
      return `${mark}  ${lines.join(`\n${' '.repeat(INDENT)}`)}`
    })
    .join('\n')
}

const INDENT = 6

/** Breaks a sentence at its blanks, to go into what the mark leaves of the terminal's width. */
function wrapped(text: string, width: number | undefined): string[] {
  const room = (width ?? Number.POSITIVE_INFINITY) - INDENT
  const lines: string[] = []
  for (const word of escapeControls(text).split(' ')) {
    const longer = `${lines.at(-1)} ${word}`
    if (lines.length > 0 && displayWidth(longer) <= room) lines[lines.length - 1] = longer
    else lines.push(word)
  }
  return lines
}

/** What is told can be asked for: `--time` takes a window's begin and what lies before its end, not a moment before. */
function fromText({ from }: Window): string {
  const isWhole = /:\d\d(?:\.0+)?Z$/.test(from.time)
  return isWhole ? seconds(from.time) : seconds(new Date(Date.parse(from.time) + 1000).toISOString())
}

/** Within the second of the begin there is no whole one. */
function toText(window: Window): string {
  const [from, to] = [fromText(window), seconds(window.to.time)]
  return to < from ? from : to
}

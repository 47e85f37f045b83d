import { renderTable } from '../cli/table.ts'
import { escapeControls, paint } from '../cli/terminal.ts'
import { formatAge } from '../cli/units.ts'
import { wrapped } from '../cli/wrap.ts'
import type { Finding, RepositoryFacts } from '../status/facts.ts'
import { type ClusterStatus, type PlacedFinding, placedFindings, problemsIn } from './status-answers.ts'
import { outlookLines } from './status-outlook.ts'
import { receivingText, secondsOf } from './wal-text.ts'

interface View {
  color: boolean
  width: number | undefined
  now: Date
}

/** What `status` says to a person: what is wrong, the worst first, and then of each repository what can be recovered. */
export function statusText(clusters: readonly ClusterStatus[], view: View): string {
  const problems = problemsIn(placedFindings(clusters))
  const isOne = clusters.length === 1 && clusters[0]!.status.repositories.length === 1
  const parts = clusters.flatMap(({ cluster, status }) => [
    ...status.repositories
      .filter(({ facts }) => facts.error === null)
      .map(({ facts, findings }) => repositoryText(cluster, facts, findings, view)),
    serverText(isOne ? undefined : cluster, status.findings, view),
  ])
  return [problemsText(problems, isOne, view), ...parts].filter((part) => part !== '').join('\n\n')
}

function problemsText(problems: readonly PlacedFinding[], isOne: boolean, view: View): string {
  if (problems.length === 0) return paint('All is well.', 'green', view.color)
  return problems
    .map((problem) => findingText(isOne ? problem : { ...problem, text: placed(problem) }, view))
    .join('\n')
}

const placed = ({ cluster, repository, text }: PlacedFinding) =>
  `${cluster}${repository === undefined ? '' : ` in ${repository}`}: ${text}`

function repositoryText(
  cluster: string,
  facts: RepositoryFacts,
  findings: readonly Finding[],
  view: View,
): string {
  const title = `Cluster "${cluster}" in repository "${facts.repository}" (${facts.location})`
  const lines = outlookLines(facts).map(({ title: label, text }) => {
    const blank = ' '.repeat(LABEL)
    return `${label.padEnd(LABEL)}${wrapped(text, LABEL, view.width).join(`\n${blank}`)}`
  })
  const others = findings.filter(({ severity, subject }) => severity === 'ok' && !IN_LINES.has(subject))
  return [
    paint(escapeControls(title), 'bold', view.color),
    windowTable(facts, view),
    [...lines, ...others.map((finding) => findingText(finding, view))].join('\n'),
  ]
    .filter((part) => part !== '')
    .join('\n\n')
}

/** What is well of these the lines of the outlook say. */
const IN_LINES: ReadonlySet<string> = new Set(['backups', 'space'])

/** @param cluster undefined where there is only one */
function serverText(cluster: string | undefined, findings: readonly Finding[], view: View): string {
  const well = findings.filter(({ severity }) => severity === 'ok')
  if (well.length === 0) return ''
  const title = cluster === undefined ? 'The server' : `The server of "${cluster}"`
  return [
    paint(escapeControls(title), 'bold', view.color),
    well.map((finding) => findingText(finding, view)).join('\n'),
  ].join('\n\n')
}

function windowTable({ windows, receiving }: RepositoryFacts, view: View): string {
  // Of single ends there may be many; what is said below the table tells how many.
  const shown = windows.filter(({ isThinned }) => !isThinned)
  if (shown.length === 0) return ''
  const table = renderTable(
    [
      { title: 'Timeline', align: 'right', leaveOut: 3 },
      { title: 'Recoverable from', whole: true },
      { title: 'To', whole: true },
      { title: 'Ago', align: 'right', leaveOut: 1 },
      { title: 'Backups', align: 'right', leaveOut: 2 },
      { title: 'Ends with', style: (cell) => (cell === WHOLE ? undefined : 'red') },
    ],
    shown.map((window) => {
      const [from, to] = secondsOf(window.from.time, window.to.time)
      return [
        String(window.timeline),
        from,
        `${window.to.isExact ? '' : '>= '}${to}`,
        formatAge(view.now.getTime() - Date.parse(window.to.time)),
        String(window.backups.length),
        window.cutBy === null ? WHOLE : CUT,
      ]
    }),
    view,
  )
  return receiving ? `${table}\n${receivingText(receiving)}` : table
}

/** What a window ends with; which segments are missing is said above. */
const WHOLE = 'archive'
const CUT = 'gap'

const STYLES = { ok: 'green', warn: 'yellow', fail: 'red' } as const

function findingText({ severity, text, hint }: Finding, view: View): string {
  const mark = paint(severity.padEnd(4), STYLES[severity], view.color)
  const lines = [text, ...(hint ? [hint] : [])].flatMap((each) => wrapped(each, INDENT, view.width))
  return `${mark}  ${lines.join(`\n${' '.repeat(INDENT)}`)}`
}

const INDENT = 6
/** The longest label of the outlook, and a gap. */
const LABEL = 15

import { paint, type Styles } from '../cli/terminal.ts'
import { formatCount } from '../cli/units.ts'
import { type Range, ticksOf } from './axis.ts'
import type { Clock } from './clock.ts'
import { type History, type Mark, type Span, shownRows, type TimelineRow } from './history.ts'

export interface TextView {
  color: boolean
  /** In columns; 100 where nobody looks at a terminal. */
  width: number | undefined
  /** Whether more than ASCII can be shown. */
  unicode: boolean
}

const WITHOUT_TERMINAL = 100
const NARROWEST = 24
const LEAST_MS = 6 * 60 * 60_000

/** What stands for what: with all characters, and with plain ones. */
const SIGNS = {
  window: ['█', '='],
  shared: ['─', '-'],
  gap: ['░', '!'],
  between: ['·', '.'],
  branch: ['└', '\\'],
} as const
const LETTERS = { full: 'F', diff: 'D', incr: 'i', logical: 'L' } as const
const BROKEN = 'x'

const MEANINGS = {
  window: 'any moment can be recovered',
  shared: 'the same, by the timelines before',
  gap: 'lost: WAL is missing',
  between: 'only the moments of backups',
  branch: 'recovered to here, and gone on',
} as const
const LETTER_MEANINGS = {
  full: 'full',
  diff: 'differential',
  incr: 'incremental',
  logical: 'logical',
} as const

const STYLES: Partial<Record<string, Styles>> = { window: 'cyan', gap: 'red', full: 'bold', broken: 'red' }

/** A place in a row: a character and what it says, by which it is painted. */
type Cell = { sign: string; says: string } | undefined

/**
 * Draws in a terminal what can be recovered and by which backups: a row of time for each timeline, and below it the backups. Of
 * what falls into one place the weightiest is shown. Pure.
 */
export function timelineText(history: History, clock: Clock, view: TextView): string {
  const { begin, now } = history
  const range = { from: Math.min(begin, now - LEAST_MS), to: now }
  const rows = shownRows(history, range)
  if (rows.length === 0 && history.dumps.length === 0)
    return 'There is nothing to draw: no backups and no WAL.'
  const labels = [...rows.map(({ timeline }) => `Timeline ${timeline}`), 'logical']
  const gutter = Math.max(...labels.map((label) => label.length)) + 2
  // The last column stays free: writing into it makes some terminals wrap.
  const room = Math.max(NARROWEST, (view.width ?? WITHOUT_TERMINAL) - gutter - 1)
  const place = placesOf(range, room)
  const line = (label: string, cells: readonly Cell[]) =>
    `${label.padEnd(gutter)}${painted(cells, view)}`.trimEnd()
  const said = new Set<string>()
  const note = (cells: Cell[]) => {
    for (const cell of cells) if (cell) said.add(cell.says)
    return cells
  }
  const drawn = rows.flatMap((row) => [
    line(`Timeline ${row.timeline}`, note(spanCells(row, place, room, view))),
    line('', note(markCells(row.marks, place, room))),
  ])
  if (history.dumps.length > 0) drawn.push(line('logical', note(markCells(history.dumps, place, room))))
  const hidden = history.timelines.length - rows.length
  return [
    `${' '.repeat(gutter)}${axisText(range, clock, place, room)}`.trimEnd(),
    ...drawn,
    ...(hidden > 0 ? [`${formatCount(hidden, 'older timeline')} not shown.`] : []),
    '',
    ...legend(said, view),
  ].join('\n')
}

const placesOf =
  ({ from, to }: Range, room: number) =>
  (at: number) =>
    Math.min(room - 1, Math.max(0, Math.floor(((at - from) / Math.max(1, to - from)) * room)))

type Place = ReturnType<typeof placesOf>

/** A gap is seen however short it is, and so is a window beside it. */
const WEIGHTS: Record<Span['kind'], number> = { between: 0, shared: 1, window: 2, gap: 3 }

function spanCells({ spans, branch }: TimelineRow, place: Place, room: number, view: TextView): Cell[] {
  const cells: Cell[] = Array.from({ length: room })
  const at = view.unicode ? 0 : 1
  for (const { kind, from, to } of spans.toSorted((a, b) => WEIGHTS[a.kind] - WEIGHTS[b.kind]))
    for (let column = place(from); column <= place(to); column++)
      cells[column] = { sign: SIGNS[kind][at], says: kind }
  if (!branch) return cells
  const [left, on] = [place(branch.leftAt), place(branch.goesOnAt)]
  for (let column = left + 1; column < on; column++)
    cells[column] ??= { sign: SIGNS.shared[at], says: 'branch' }
  cells[left] = { sign: SIGNS.branch[at], says: 'branch' }
  return cells
}

const MARK_WEIGHTS = { incr: 0, logical: 0, diff: 1, full: 2 } as const

function markCells(marks: readonly Mark[], place: Place, room: number): Cell[] {
  const cells: Cell[] = Array.from({ length: room })
  const weightOf = ({ kind, isBroken }: Mark) => (isBroken ? 3 : MARK_WEIGHTS[kind])
  for (const mark of marks.toSorted((a, b) => weightOf(a) - weightOf(b)))
    cells[place(mark.at)] = mark.isBroken
      ? { sign: BROKEN, says: 'broken' }
      : { sign: LETTERS[mark.kind], says: mark.kind }
  return cells
}

function painted(cells: readonly Cell[], { color }: TextView): string {
  return cells
    .map((cell) => {
      const style = cell && STYLES[cell.says]
      return cell === undefined ? ' ' : style === undefined ? cell.sign : paint(cell.sign, style, color)
    })
    .join('')
}

/** As many moments as have room, the last of them now. */
function axisText(range: Range, clock: Clock, place: Place, room: number): string {
  const end = 'now'
  let text = ''
  for (const { at, text: label } of ticksOf(range, clock)) {
    const column = place(at)
    if (column < text.length + (text === '' ? 0 : 2) || column + label.length + 2 > room - end.length)
      continue
    text = `${text.padEnd(column)}${label}`
  }
  return `${text.padEnd(room - end.length)}${end}`
}

/** What was drawn, and what it means, in lines that fit. */
function legend(said: ReadonlySet<string>, { width, unicode, color }: TextView): string[] {
  const at = unicode ? 0 : 1
  const entries: [says: string, sign: string, text: string][] = [
    ...(Object.keys(MEANINGS) as (keyof typeof MEANINGS)[]).map((kind): [string, string, string] => [
      kind,
      SIGNS[kind][at],
      MEANINGS[kind],
    ]),
    ...(Object.keys(LETTERS) as (keyof typeof LETTERS)[]).map((kind): [string, string, string] => [
      kind,
      LETTERS[kind],
      LETTER_MEANINGS[kind],
    ]),
    ['broken', BROKEN, 'cannot be recovered'],
  ]
  const lines: string[] = []
  let used = Number.POSITIVE_INFINITY
  for (const [says, sign, text] of entries) {
    if (!said.has(says)) continue
    const style = STYLES[says]
    const entry = `${style === undefined ? sign : paint(sign, style, color)} ${text}`
    const length = 2 + text.length
    if (used + 3 + length > (width ?? WITHOUT_TERMINAL)) {
      lines.push(entry)
      used = length
    } else {
      lines[lines.length - 1] += `   ${entry}`
      used += 3 + length
    }
  }
  return lines
}

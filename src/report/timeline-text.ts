import { paint, type Styles } from '../cli/terminal.ts'
import { formatCount } from '../cli/units.ts'
import { type Range, rangeSince, ticksOf } from './axis.ts'
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

/** What stands for what: with all characters, and with plain ones. */
const SIGNS = {
  window: ['█', '='],
  shared: ['─', '-'],
  gap: ['░', '!'],
  mixed: ['▒', '%'],
  between: ['·', '.'],
  branch: ['└', '\\'],
} as const
const LETTERS = { full: 'F', diff: 'D', incr: 'i', logical: 'L' } as const
const BROKEN = 'x'
const SEVERAL = '+'

const MEANINGS = {
  window: 'any moment can be recovered',
  shared: 'the same, by the timelines before',
  gap: 'lost: WAL is missing',
  mixed: 'partly lost: WAL is missing',
  between: 'only the moments of backups',
  branch: 'recovered to here, and gone on',
} as const
const LETTER_MEANINGS = {
  full: 'full',
  diff: 'differential',
  incr: 'incremental',
  logical: 'logical',
} as const

const STYLES: Partial<Record<string, Styles>> = {
  ...{ window: 'cyan', gap: 'red', mixed: 'red', full: 'bold', several: 'bold', broken: 'red' },
}

/** A place in a row: a character and what it says, by which it is painted. */
type Cell = { sign: string; says: string } | undefined

/**
 * Draws in a terminal what can be recovered and by which backups: a row of time for each timeline, and below it the backups. What
 * can be recovered is not hidden by what is lost in the same place, and the last place tells of now. Pure.
 */
export function timelineText(history: History, clock: Clock, view: TextView): string {
  const range = rangeSince(history.begin, history.now)
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

/** What is drawn over what. */
const LAYERS: readonly Span['kind'][] = ['between', 'gap', 'shared', 'window']

function spanCells({ spans, branch }: TimelineRow, place: Place, room: number, view: TextView): Cell[] {
  const cells: Cell[] = Array.from({ length: room })
  const at = view.unicode ? 0 : 1
  const columnsOf = ({ from, to }: Span) =>
    Array.from({ length: place(to) - place(from) + 1 }, (_, index) => place(from) + index)
  const draw = (says: Span['kind'] | 'mixed', columns: readonly number[]) => {
    for (const column of columns) cells[column] = { sign: SIGNS[says][at], says }
  }
  for (const layer of LAYERS) for (const span of spans) if (span.kind === layer) draw(layer, columnsOf(span))
  // A gap is seen however short it is.
  for (const span of spans) {
    const columns = columnsOf(span)
    if (span.kind === 'gap' && !columns.some((column) => cells[column]!.says === 'gap'))
      draw('mixed', columns.slice(0, 1))
  }
  const newest = spans.reduce<Span | undefined>(
    (last, span) => (last && last.to > span.to ? last : span),
    undefined,
  )
  if (newest && place(newest.to) === room - 1) draw(newest.kind, [room - 1])
  if (!branch) return cells
  const [left, on] = [place(branch.leftAt), place(branch.goesOnAt)]
  for (let column = left + 1; column < on; column++)
    cells[column] ??= { sign: SIGNS.shared[at], says: 'branch' }
  cells[left] = { sign: SIGNS.branch[at], says: 'branch' }
  return cells
}

function markCells(marks: readonly Mark[], place: Place, room: number): Cell[] {
  const cells: Cell[] = Array.from({ length: room })
  for (const { at, kind, isBroken } of marks) {
    const cell = isBroken ? { sign: BROKEN, says: 'broken' } : { sign: LETTERS[kind], says: kind }
    const there = cells[place(at)]
    cells[place(at)] = !there || there.says === cell.says ? cell : { sign: SEVERAL, says: 'several' }
  }
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
    ['several', SEVERAL, 'several kinds of backups'],
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

import { cutToWidth, displayWidth, escapeControls, paint, type Styles } from './terminal.ts'
import { wrapped } from './wrap.ts'

export interface Column {
  title: string
  /** 'left' unless said otherwise. */
  align?: 'left' | 'right'
  /** The look of every cell below the title, or a choice by what the cell says. */
  style?: Styles | ((cell: string) => Styles | undefined)
  /** A name or a moment of which no part may be missing. Numbers are never cut: a shortened number is a wrong number. */
  whole?: boolean
  /** Sentences, which go on below themselves instead of being cut. */
  wraps?: boolean
  /** Left out where even cutting does not make the table fit; the lowest goes first. */
  leaveOut?: number
}

export interface TableOptions {
  color: boolean
  /**
   * In columns. A wider table has its widest left-aligned columns cut, with '…' where something is missing; where that is
   * not enough, columns are left out.
   */
  width?: number | undefined
}

const GAP = '  '
const NARROWEST_CUT = 8
/** Narrower sentences are not read. */
const NARROWEST_WRAPPED = 24

/**
 * Lays out rows under titles.
 * @param rows the cells as plain text; control characters are shown escaped, and missing cells are blank
 * @returns the lines, titles first, joined by newlines, without blanks at their ends and without a last newline
 */
export function renderTable(all: Column[], rows: string[][], options: TableOptions): string {
  const columns = [...all]
  const limit = options.width ?? Number.POSITIVE_INFINITY
  const cellsOf = (row: string[]) =>
    columns.map((column) => escapeControls(row[all.indexOf(column)] ?? '').trimEnd())
  for (;;) {
    const titles = columns.map((column) => escapeControls(column.title))
    const body = rows.map(cellsOf)
    const widths = fitWidths(columns, titles, body, limit)
    const least = columns
      .filter(({ leaveOut }) => leaveOut !== undefined)
      .toSorted((a, b) => a.leaveOut! - b.leaveOut!)[0]
    if (least === undefined || sumOf(widths) <= limit) return layOut(columns, titles, body, widths, options)
    columns.splice(columns.indexOf(least), 1)
  }
}

function layOut(
  columns: Column[],
  titles: string[],
  body: string[][],
  widths: number[],
  options: TableOptions,
): string {
  type StyleOf = (column: Column, cell: string) => Styles | undefined
  const render = (cells: string[], styleOf: StyleOf) => {
    const parts = columns.map(({ wraps }, index) => {
      const [cell, width] = [cells[index]!, widths[index]!]
      return wraps ? wrapped(cell, 0, width) : [shorten(cell, width)]
    })
    const height = Math.max(...parts.map((lines) => lines.length))
    return Array.from({ length: height }, (_, row) =>
      columns
        .map((column, index) => {
          const part = parts[index]![row] ?? ''
          const style = styleOf(column, cells[index]!)
          const painted = style === undefined ? part : paint(part, style, options.color)
          const padding = ' '.repeat(Math.max(0, widths[index]! - displayWidth(part)))
          return column.align === 'right' ? padding + painted : painted + padding
        })
        .join(GAP)
        .trimEnd(),
    ).join('\n')
  }

  return [
    render(titles, () => 'bold'),
    ...body.map((cells) =>
      render(cells, ({ style }, cell) => (typeof style === 'function' ? style(cell) : style)),
    ),
  ].join('\n')
}

function fitWidths(columns: Column[], titles: string[], body: string[][], limit: number): number[] {
  const widths = titles.map((title, index) =>
    body.reduce((widest, cells) => Math.max(widest, displayWidth(cells[index]!)), displayWidth(title)),
  )
  const floors = titles.map((title, index) =>
    Math.max(displayWidth(title), columns[index]!.wraps ? NARROWEST_WRAPPED : NARROWEST_CUT),
  )
  let excess = sumOf(widths) - limit
  for (; excess > 0; excess--) {
    const widest = widths.reduce((best, width, index) => {
      const { align, whole } = columns[index]!
      if (whole || align === 'right' || width <= floors[index]!) return best
      return best === -1 || width > widths[best]! ? index : best
    }, -1)
    if (widest === -1) break
    widths[widest]!--
  }
  return widths
}

/** How wide a table is. */
const sumOf = (widths: number[]) =>
  widths.reduce((sum, width) => sum + width, GAP.length * (widths.length - 1))

function shorten(cell: string, width: number): string {
  return displayWidth(cell) <= width ? cell : `${cutToWidth(cell, width - 1)}…`
}

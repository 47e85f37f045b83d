import { readFile, writeFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { Measured } from './measure.ts'

/** One timed run. */
export interface Run extends Measured {
  /** What is copied: `4 GB`, `20,000 tables`. */
  data: string
  operation: 'backup' | 'restore'
  tool: string
  round: number
  /** Of the data directory, without its WAL. */
  plainBytes: number
  files: number
  storedBytes: number
}

type NumberOfRun = 'cpuSeconds' | 'serverCpuSeconds' | 'otherCpuSeconds' | 'storedBytes'

export interface Report {
  machine: Map<string, string>
  runs: Run[]
}

const README = fileURLToPath(new URL('README.md', import.meta.url))
const BEGIN = '<!-- table: npm run bench -- --write -->'
const END = '<!-- end of table -->'
const BASE = 'pgrecall'
const HEAD = [
  'data',
  'operation',
  'tool',
  'seconds (min to max)',
  'to pgrecall',
  'MB/s',
  'µs/file',
  'CPU s',
  'server CPU s',
  'other CPU s',
  'peak MiB',
  'stored MB',
  'to pgrecall',
]
/** Columns of words, which stand on the left. */
const WORDS = 3

export function reportAsJson({ machine, runs }: Report): string {
  return JSON.stringify({ machine: Object.fromEntries(machine), runs }, undefined, 2)
}

/** A table in Markdown, which is as well read at a terminal. */
export function reportAsText({ machine, runs }: Report): string {
  const facts = [...machine].map(([name, value]) => `- ${name}: ${value}`)
  const rows = [...Map.groupBy(runs, (run) => `${run.data}|${run.operation}|${run.tool}`).values()]
  const first = (run: Run) => runs.findIndex((other) => isBeside(other, run))
  // Stable: within a group, tools stay in the order of the first round.
  const ordered = rows.toSorted(([a], [b]) => first(a!) - first(b!))
  return [
    ...facts,
    '',
    ...markdownTable(
      HEAD,
      ordered.map((row) => cellsOf(row, runs)),
      WORDS,
    ),
  ].join('\n')
}

/** Puts the report into README.md between its marks. */
export async function writeReport(report: Report): Promise<void> {
  await writeBetweenMarks(BEGIN, reportAsText(report))
}

/** Replaces what stands in README.md between a line and the next end of a table. */
export async function writeBetweenMarks(beginMark: string, report: string): Promise<void> {
  const text = await readFile(README, 'utf8')
  const begin = text.indexOf(beginMark)
  const end = text.indexOf(END, begin)
  if (begin < 0 || end < 0) throw new Error(`${README} lacks the lines ${beginMark} and ${END}`)
  await writeFile(README, `${text.slice(0, begin + beginMark.length)}\n\n${report}\n\n${text.slice(end)}`)
}

/** @param row the rounds of one tool at one operation */
function cellsOf(row: Run[], all: Run[]): string[] {
  const { data, files, operation, plainBytes, tool } = row[0]!
  const base = all.filter((run) => run.tool === BASE && isBeside(run, row[0]!))
  const seconds = row.map((run) => run.seconds)
  const middle = median(seconds)
  const of = (field: NumberOfRun, runs = row) => median(runs.map((run) => run[field]))
  const ratio = (mine: number, its: number) => (base.length > 0 ? (mine / its).toFixed(2) : '')
  return [
    data,
    operation,
    tool,
    `${middle.toFixed(2)} (${Math.min(...seconds).toFixed(2)} to ${Math.max(...seconds).toFixed(2)})`,
    ratio(middle, median(base.map((run) => run.seconds))),
    (plainBytes / 1e6 / middle).toFixed(0),
    ((middle * 1e6) / files).toFixed(0),
    of('cpuSeconds').toFixed(2),
    of('serverCpuSeconds').toFixed(2),
    of('otherCpuSeconds').toFixed(2),
    (Math.max(...row.map((run) => run.peakBytes)) / 2 ** 20).toFixed(0),
    (of('storedBytes') / 1e6).toFixed(1),
    ratio(of('storedBytes'), of('storedBytes', base)),
  ]
}

function isBeside(one: Run, other: Run): boolean {
  return one.data === other.data && one.operation === other.operation
}

export function median(values: number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** @param words how many columns stand on the left */
export function markdownTable(head: string[], rows: string[][], words: number): string[] {
  const widths = [...head.keys()].map((column) =>
    Math.max(...[head, ...rows].map((row) => row[column]!.length)),
  )
  const pad = (text: string, column: number) =>
    column < words ? text.padEnd(widths[column]!) : text.padStart(widths[column]!)
  const line = (cells: string[]) => `| ${cells.map(pad).join(' | ')} |`
  const rule = widths.map((width, column) =>
    column < words ? '-'.repeat(width) : `${'-'.repeat(width - 1)}:`,
  )
  return [line(head), `| ${rule.join(' | ')} |`, ...rows.map(line)]
}

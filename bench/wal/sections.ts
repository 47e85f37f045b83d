import type { WalPhase } from '../options.ts'
import { markdownTable, median, writeBetweenMarks } from '../report.ts'
import type { Call } from './calls.ts'
import type { Timed } from './ground.ts'

/** What one part of the benchmark found. */
export interface Section {
  /** Whole runs over all segments, by tool, in the order of the table. */
  runs: { tool: string; timed: Timed; storedBytes?: number }[]
  calls: { kind: string; tool: string; calls: Call[] }[]
  /** The tool that the others are compared with. */
  base: string
  segments: number
}

const markOf = (phase: WalPhase) => `<!-- table: npm run bench -- wal --only ${phase} --write -->`

/** Puts a section into README.md between its marks. */
export async function writeSection(phase: WalPhase, machine: Map<string, string>, section: Section) {
  await writeBetweenMarks(markOf(phase), sectionAsText(machine, section))
}

/** One line, with every run and every call. */
export function sectionAsJson(phase: WalPhase, machine: Map<string, string>, section: Section): string {
  return JSON.stringify({ phase, machine: Object.fromEntries(machine), ...section })
}

/** Tables in Markdown, which are as well read at a terminal. */
export function sectionAsText(machine: Map<string, string>, section: Section): string {
  const facts = [...machine].map(([name, value]) => `${name}: ${value}`).join('; ')
  const tables = [runTable(section), callTable(section)].filter((table) => table.length > 0)
  return [facts, ...tables.map((table) => table.join('\n'))].join('\n\n')
}

function runTable({ runs, base, segments }: Section): string[] {
  if (runs.length === 0) return []
  const head = ['tool', 'seconds (min to max)', `to ${base}`, 'segments/s', 'CPU s', 'stored MB']
  const secondsOf = (tool: string) =>
    runs.filter((run) => run.tool === tool).map(({ timed }) => timed.seconds)
  const byTool = [...Map.groupBy(runs, ({ tool }) => tool)]
  const rows = byTool.map(([tool, its]) => {
    const seconds = secondsOf(tool)
    const stored = its.flatMap(({ storedBytes }) => storedBytes ?? [])
    return [
      tool,
      `${median(seconds).toFixed(2)} (${Math.min(...seconds).toFixed(2)} to ${Math.max(...seconds).toFixed(2)})`,
      (median(seconds) / median(secondsOf(base))).toFixed(2),
      (segments / median(seconds)).toFixed(1),
      median(its.map(({ timed }) => timed.cpuSeconds)).toFixed(2),
      stored.length > 0 ? (median(stored) / 1e6).toFixed(1) : '',
    ]
  })
  return markdownTable(head, rows, 1)
}

function callTable({ calls }: Section): string[] {
  const head = ['call', 'tool', 'calls', 'p50 ms', 'p99 ms', 'longest ms']
  const rows = calls
    .filter((row) => row.calls.length > 0)
    .map((row) => {
      const sorted = row.calls.map(({ milliseconds }) => milliseconds).toSorted((a, b) => a - b)
      const at = (share: number) =>
        sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!.toFixed(2)
      return [row.kind, row.tool, String(sorted.length), at(0.5), at(0.99), at(1)]
    })
  return rows.length > 0 ? markdownTable(head, rows, 2) : []
}

import { markdownTable, median } from '../report.ts'
import type { IncrementRun } from './chains.ts'
import type { RestoreRun } from './restores.ts'

const BASE = 'pgrecall'

/** Of what incrementCells gives. */
const INCREMENT_HEAD = [
  'tool',
  'seconds (min to max)',
  'to pgrecall',
  'CPU s',
  'server CPU s',
  'other CPU s',
  'read MB',
]

/** Rounds of one tool at one thing, and of pgrecall at the same. */
interface Row<Run> {
  runs: Run[]
  base: Run[]
}

/** By share of changed pages, then by tool. */
export function backupTable(runs: IncrementRun[]): string[] {
  const head = ['changed', ...INCREMENT_HEAD, '% of cluster', 'stored MB', 'to pgrecall']
  const rows = rowsBy(runs, ({ share }) => share).map(({ runs, base }) => [
    `${Number((runs[0]!.share * 100).toFixed(3))} %, ${runs[0]!.changedPages} pages`,
    ...incrementCells(runs, base),
    ((100 * of(runs, 'sourceBytes')) / runs[0]!.clusterBytes).toFixed(1),
    ...storedCells(runs, base),
  ])
  return markdownTable(head, rows, 2)
}

/** By the cluster's size, then by tool. */
export function growthTable(runs: IncrementRun[]): string[] {
  const head = ['cluster', ...INCREMENT_HEAD, 'stored MB', 'to pgrecall']
  head.push('seconds to smallest', 'read to smallest')
  const smallest = Math.min(...runs.map(({ clusterBytes }) => clusterBytes))
  const rows = rowsBy(runs, ({ clusterBytes }) => clusterBytes).map(({ runs: its, base }) => {
    const atSmallest = runs.filter(
      ({ tool, clusterBytes }) => tool === its[0]!.tool && clusterBytes === smallest,
    )
    return [
      `${(its[0]!.clusterBytes / 1e9).toFixed(2)} GB`,
      ...incrementCells(its, base),
      ...storedCells(its, base),
      ratio(its, atSmallest, 'seconds'),
      ratio(its, atSmallest, 'sourceBytes'),
    ]
  })
  return markdownTable(head, rows, 2)
}

export function restoreTable(runs: RestoreRun[]): string[] {
  const head = [
    'tool',
    'seconds (min to max)',
    'to pgrecall',
    'CPU s',
    'other CPU s',
    'peak MiB',
    'peak disk MB',
  ]
  head.push('to restored', 'stored MB')
  const rows = rowsBy(runs, () => 0).map(({ runs, base }) => [
    runs[0]!.tool,
    secondsOf(runs),
    ratio(runs, base, 'seconds'),
    of(runs, 'cpuSeconds').toFixed(2),
    of(runs, 'otherCpuSeconds').toFixed(2),
    (Math.max(...runs.map(({ peakBytes }) => peakBytes)) / 2 ** 20).toFixed(0),
    (Math.max(...runs.map(({ peakDiskBytes }) => peakDiskBytes)) / 1e6).toFixed(0),
    ratio(runs, runs, 'peakDiskBytes', 'restoredBytes'),
    megabytes(of(runs, 'storedBytes')),
  ])
  return markdownTable(head, rows, 1)
}

/** In the order in which the things came, and the tools' in the first round. */
function rowsBy<Run extends { tool: string }>(runs: Run[], thing: (run: Run) => number): Row<Run>[] {
  return [...Map.groupBy(runs, thing).values()].flatMap((same) => {
    const base = same.filter(({ tool }) => tool === BASE)
    const byTool = Map.groupBy(same, ({ tool }) => tool)
    return [...byTool.values()].map((its) => ({ runs: its, base }))
  })
}

function incrementCells(runs: IncrementRun[], base: IncrementRun[]): string[] {
  return [
    runs[0]!.tool,
    secondsOf(runs),
    ratio(runs, base, 'seconds'),
    of(runs, 'cpuSeconds').toFixed(2),
    of(runs, 'serverCpuSeconds').toFixed(2),
    of(runs, 'otherCpuSeconds').toFixed(2),
    megabytes(of(runs, 'sourceBytes')),
  ]
}

function storedCells(runs: IncrementRun[], base: IncrementRun[]): string[] {
  return [megabytes(of(runs, 'storedBytes')), ratio(runs, base, 'storedBytes')]
}

function secondsOf(runs: { seconds: number }[]): string {
  const seconds = runs.map((run) => run.seconds)
  return `${median(seconds).toFixed(2)} (${Math.min(...seconds).toFixed(2)} to ${Math.max(...seconds).toFixed(2)})`
}

function ratio<Field extends string>(
  runs: Record<Field, number>[],
  base: Record<Field, number>[],
  field: Field,
  itsField = field,
): string {
  return base.length > 0 ? (of(runs, field) / of(base, itsField)).toFixed(2) : ''
}

function of<Field extends string>(runs: Record<Field, number>[], field: Field): number {
  return median(runs.map((run) => run[field]))
}

const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1)

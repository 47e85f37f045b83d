import { constants } from 'node:os'
import { findPrograms } from '../test/lab/programs.ts'
import { mixedData, smallTables } from './data.ts'
import { measureIncremental } from './incremental/measure-incremental.ts'
import { measureLogical } from './logical/measure-logical.ts'
import { loadAverage, machineFacts } from './machine.ts'
import { measureSection, type Section } from './measure-section.ts'
import { type BenchOptions, runChosen, type ToolName } from './options.ts'
import { type Report, type Run, reportAsJson, reportAsText, writeReport } from './report.ts'
import { measureS3 } from './s3/measure-s3.ts'
import { measureScale } from './scale/measure-scale.ts'
import { pgBasebackup } from './tools/pg-basebackup.ts'
import { pgbackrest } from './tools/pgbackrest.ts'
import { pgrecall } from './tools/pgrecall.ts'
import { tar } from './tools/tar.ts'
import type { ToolOf } from './tools/tool.ts'
import { measureWal } from './wal/measure-wal.ts'

const TOOLS: Record<ToolName, ToolOf> = {
  pgrecall,
  pgbackrest,
  pg_basebackup: pgBasebackup,
  tar,
}

async function measureBackups(options: BenchOptions): Promise<void> {
  // The lab makes its folders below this.
  if (options.folder) process.env.TMPDIR = options.folder
  const programs = findPrograms()
  if (!programs)
    throw new Error('no PostgreSQL server found: install one, or set PG_BIN to the folder of its programs')
  const used = new Map<string, string>()
  const machine = await machineFacts(programs)
  const runs: Run[] = []
  for (const section of sectionsOf(options)) {
    const tools = options.tools.map((name) => TOOLS[name])
    runs.push(...(await measureSection(section, tools, options, used)))
  }
  for (const [name, version] of used) machine.set(name, version)
  machine.set('load average after', loadAverage())
  await publish({ machine, runs }, options)
}

function sectionsOf({ only, size, smallTables: count }: BenchOptions): Section[] {
  const sections: Section[] = []
  const operations = (['backup', 'restore'] as const).filter((operation) => only.includes(operation))
  const large = size >= 1e9 ? `${size / 1e9} GB` : `${size / 1e6} MB`
  if (operations.length > 0) sections.push({ data: large, fill: mixedData(size), operations })
  if (only.includes('small')) {
    const data = `${count.toLocaleString('en-US')} tables`
    sections.push({ data, fill: smallTables(count), operations: ['backup', 'restore'] })
  }
  return sections
}

async function publish(report: Report, options: BenchOptions): Promise<void> {
  if (options.write) await writeReport(report)
  console.log(options.json ? reportAsJson(report) : `\n${reportAsText(report)}`)
}

// The lab ends its processes and removes its folders whenever this process exits.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => process.exit(128 + constants.signals[signal]))
}

await runChosen({
  backups: measureBackups,
  wal: measureWal,
  s3: measureS3,
  incremental: measureIncremental,
  logical: measureLogical,
  scale: measureScale,
})

import { rm } from 'node:fs/promises'
import { constants } from 'node:os'
import { execa } from 'execa'
import { findPrograms } from '../test/lab/programs.ts'
import { mixedData, smallTables } from './data.ts'
import { type Fill, Ground } from './ground.ts'
import { loadAverage, machineFacts } from './machine.ts'
import { measure } from './measure.ts'
import { type BenchOptions, runChosen, type ToolName } from './options.ts'
import { prove } from './proof.ts'
import { type Report, type Run, reportAsJson, reportAsText, writeReport } from './report.ts'
import { pgBasebackup } from './tools/pg-basebackup.ts'
import { pgbackrest } from './tools/pgbackrest.ts'
import { pgrecall } from './tools/pgrecall.ts'
import { tar } from './tools/tar.ts'
import type { Tool, ToolOf } from './tools/tool.ts'
import { measureWal } from './wal/measure-wal.ts'

const TOOLS: Record<ToolName, ToolOf> = {
  pgrecall,
  pgbackrest,
  pg_basebackup: pgBasebackup,
  tar,
}

/** One kind of data, on which all tools are measured. */
interface Section {
  data: string
  fill: Fill
  operations: Run['operation'][]
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
  for (const section of sectionsOf(options)) runs.push(...(await measureSection(section, options, used)))
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

async function measureSection(
  section: Section,
  options: BenchOptions,
  used: Map<string, string>,
): Promise<Run[]> {
  say(`making a cluster of ${section.data}`)
  await using ground = await Ground.create(section.fill, options.jobs)
  say(`${(ground.bytes / 1e9).toFixed(2)} GB in ${ground.files} files`)
  const tools = await installedTools(ground, options, used)
  const runs: Run[] = []
  for (let round = 1; round <= options.rounds; round++) {
    // Whatever a neighbour leaves behind in the machine, it leaves to another one in the next round.
    for (const tool of round % 2 === 1 ? tools : tools.toReversed()) {
      runs.push(...(await measureTool(tool, round, section, ground)))
    }
  }
  return runs
}

async function installedTools(
  ground: Ground,
  options: BenchOptions,
  used: Map<string, string>,
): Promise<Tool[]> {
  const installed: Tool[] = []
  for (const name of options.tools) {
    const tool = await TOOLS[name](ground)
    const version = await tool.version()
    if (version) installed.push(tool)
    used.set(tool.name, version ?? 'not installed')
  }
  return installed
}

/** A backup and, where asked for, its restore. Nothing of it is left, neither on disk nor to be written to it. */
async function measureTool(tool: Tool, round: number, section: Section, ground: Ground): Promise<Run[]> {
  await tool.prepare()
  await ground.warm()
  await execa('sync')
  const backup = await measure(tool.backup(), ground)
  const storedBytes = await tool.storedBytes()
  const { bytes: plainBytes, files } = ground
  const facts = { data: section.data, tool: tool.name, round, plainBytes, files, storedBytes }
  const runs: Run[] = [{ ...facts, operation: 'backup', ...backup }]
  if (section.operations.includes('restore')) {
    const target = await ground.scratch.folder('restored')
    await execa('sync')
    runs.push({ ...facts, operation: 'restore', ...(await measure(tool.restore(target), ground)) })
    if (round === 1) await prove(target, ground)
    await rm(target, { recursive: true })
  }
  await tool.cleanup()
  await execa('sync')
  const wanted = runs.filter(({ operation }) => section.operations.includes(operation))
  for (const { operation, seconds, cpuSeconds, peakBytes } of wanted) {
    const figures = `${seconds.toFixed(2)} s, CPU ${cpuSeconds.toFixed(2)} s, ${(peakBytes / 2 ** 20).toFixed(0)} MiB`
    say(`round ${round}: ${tool.name} ${operation} ${figures}`)
  }
  return wanted
}

async function publish(report: Report, options: BenchOptions): Promise<void> {
  if (options.write) await writeReport(report)
  console.log(options.json ? reportAsJson(report) : `\n${reportAsText(report)}`)
}

function say(text: string): void {
  console.error(text)
}

// The lab ends its processes and removes its folders whenever this process exits.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => process.exit(128 + constants.signals[signal]))
}

await runChosen({ backups: measureBackups, wal: measureWal })

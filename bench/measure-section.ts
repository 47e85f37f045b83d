import { rm } from 'node:fs/promises'
import { execa } from 'execa'
import { type Fill, Ground } from './ground.ts'
import { measure } from './measure.ts'
import { prove } from './proof.ts'
import type { Run } from './report.ts'
import type { Tool, ToolOf } from './tools/tool.ts'

/** One kind of data, on which all tools are measured. */
export interface Section {
  data: string
  fill: Fill
  operations: Run['operation'][]
}

/** Every tool in turn, on a cluster that is made for it. @param used is told the tools' versions */
export async function measureSection(
  section: Section,
  tools: readonly ToolOf[],
  options: { jobs: number; rounds: number },
  used: Map<string, string>,
): Promise<Run[]> {
  say(`making a cluster of ${section.data}`)
  await using ground = await Ground.create(section.fill, options.jobs)
  say(`${(ground.bytes / 1e9).toFixed(2)} GB in ${ground.files} files`)
  const found = await installedTools(ground, tools, used)
  const runs: Run[] = []
  for (let round = 1; round <= options.rounds; round++) {
    // Whatever a neighbour leaves behind in the machine, it leaves to another one in the next round.
    for (const tool of round % 2 === 1 ? found : found.toReversed()) {
      runs.push(...(await measureTool(tool, round, section, ground)))
    }
  }
  return runs
}

async function installedTools(
  ground: Ground,
  tools: readonly ToolOf[],
  used: Map<string, string>,
): Promise<Tool[]> {
  const installed: Tool[] = []
  for (const toolOf of tools) {
    const tool = await toolOf(ground)
    const version = await tool.version()
    if (version) installed.push(tool)
    used.set(tool.name, version ?? 'not installed')
  }
  return installed
}

/** A backup and, where asked for, its restore. Nothing of it is left, neither on disk nor to be written to it. */
async function measureTool(tool: Tool, round: number, section: Section, ground: Ground): Promise<Run[]> {
  await tool.prepare()
  if (tool.archiveCommand) await ground.archiveWith(tool.archiveCommand)
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
    runs.push({ ...facts, operation: 'restore', ...(await measure(tool.restore!(target), ground)) })
    if (round === 1) await prove(target, ground)
    await rm(target, { recursive: true })
  }
  if (tool.archiveCommand) await ground.archiveWith('true')
  await tool.cleanup()
  await execa('sync')
  const wanted = runs.filter(({ operation }) => section.operations.includes(operation))
  for (const { operation, seconds, cpuSeconds, peakBytes } of wanted) {
    const figures = `${seconds.toFixed(2)} s, CPU ${cpuSeconds.toFixed(2)} s, ${(peakBytes / 2 ** 20).toFixed(0)} MiB`
    say(`round ${round}: ${tool.name} ${operation} ${figures}`)
  }
  return wanted
}

function say(text: string): void {
  console.error(text)
}

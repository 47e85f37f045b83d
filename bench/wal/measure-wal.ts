import { findPrograms } from '../../test/lab/programs.ts'
import { machineFacts } from '../machine.ts'
import type { WalBenchOptions, WalPhase } from '../options.ts'
import { measureFetch } from './fetch.ts'
import { WalGround } from './ground.ts'
import { measurePush } from './push.ts'
import { measureReplay } from './replay.ts'
import { type Section, sectionAsJson, sectionAsText, writeSection } from './sections.ts'
import { type WalTool, walTools } from './tools.ts'
import type { Work } from './work.ts'

const PHASES: Record<WalPhase, (work: Work) => Promise<Section>> = {
  push: measurePush,
  fetch: measureFetch,
  replay: measureReplay,
}

/** Archiving and fetching of the same WAL by all tools. What one section found is shown and written before the next begins. */
export async function measureWal(options: WalBenchOptions): Promise<void> {
  if (options.folder) process.env.TMPDIR = options.folder
  const programs = findPrograms()
  if (!programs)
    throw new Error('no PostgreSQL server found: install one, or set PG_BIN to the folder of its programs')
  const machine = await machineFacts(programs)
  say(`making ${options.segments} segments of WAL`)
  await using ground = await WalGround.create(options.segments, options.jobs)
  const tools = await installed(await walTools(ground), machine)
  machine.set('WAL', `${ground.segments.length} segments of 16 MiB`)
  const work: Work = { ground, tools, rounds: options.rounds, filled: new Set(), say }
  for (const phase of options.only) {
    const section = await PHASES[phase](work)
    if (options.write) await writeSection(phase, machine, section)
    console.log(
      options.json ? sectionAsJson(phase, machine, section) : `\n${sectionAsText(machine, section)}`,
    )
  }
}

async function installed(tools: WalTool[], machine: Map<string, string>): Promise<WalTool[]> {
  const found: WalTool[] = []
  for (const tool of tools) {
    const version = await tool.version()
    if (version) found.push(tool)
    machine.set(tool.name, version ?? 'not installed')
  }
  return found
}

function say(text: string): void {
  console.error(text)
}

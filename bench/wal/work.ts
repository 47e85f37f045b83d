import type { Timed, WalGround } from './ground.ts'
import type { WalTool } from './tools.ts'

/** What the sections share. */
export interface Work {
  ground: WalGround
  tools: readonly WalTool[]
  rounds: number
  /** Tools whose archive has all segments. */
  filled: Set<WalTool>
  say(text: string): void
}

/** Lets every tool run once a round; every other round in the opposite order. */
export async function takeTurns<Tool extends { name: string }, Run extends { timed: Timed }>(
  { rounds, say }: Work,
  tools: readonly Tool[],
  run: (tool: Tool, round: number) => Promise<Run>,
): Promise<(Run & { tool: string })[]> {
  const runs: (Run & { tool: string })[] = []
  for (let round = 1; round <= rounds; round++) {
    for (const tool of round % 2 === 1 ? tools : tools.toReversed()) {
      const result = await run(tool, round)
      runs.push({ ...result, tool: tool.name })
      const { seconds, cpuSeconds } = result.timed
      say(`round ${round}: ${tool.name} ${seconds.toFixed(2)} s, CPU ${cpuSeconds.toFixed(2)} s`)
    }
  }
  const order = (name: string) => tools.findIndex((tool) => tool.name === name)
  return runs.toSorted((a, b) => order(a.tool) - order(b.tool))
}

/** For the sections that read: what an earlier one has not archived, is archived now. */
export async function fillArchives({ ground, tools, filled, say }: Work): Promise<void> {
  for (const tool of tools) {
    if (filled.has(tool)) continue
    say(`${tool.name} archives what is to be read`)
    await tool.prepare()
    await ground.drain(tool.archiveCommand)
    await tool.forget(ground.cluster.dataDirectory)
    filled.add(tool)
  }
}

import { rm } from 'node:fs/promises'
import { type Call, CallLog } from './calls.ts'
import type { Section } from './sections.ts'
import type { WalTool } from './tools.ts'
import { fillArchives, type Work } from './work.ts'

/** Single calls, with nothing prepared. */
const COLD_CALLS = 20

/** How long a recovery waits for each segment. */
export async function measureFetch(work: Work): Promise<Section> {
  const { ground, tools, say } = work
  await fillArchives(work)
  const calls: Section['calls'] = []
  for (const tool of tools) {
    say(`single calls of ${tool.name}`)
    calls.push({ kind: 'one segment, nothing prepared', tool: tool.name, calls: await coldCalls(work, tool) })
  }
  for (const tool of tools) {
    say(`each call of ${tool.name} in a recovery`)
    const all = await recoveryCalls(work, tool)
    const { name } = tool
    calls.push({ kind: 'recovery', tool: name, calls: all })
    calls.push({
      kind: 'recovery: segment was not ready',
      tool: name,
      calls: all.filter((call) => !call.isPrepared),
    })
    calls.push({
      kind: 'recovery: segment was ready',
      tool: name,
      calls: all.filter((call) => call.isPrepared),
    })
  }
  calls.sort((a, b) => a.kind.localeCompare(b.kind))
  return { runs: [], calls, base: 'pgrecall', segments: ground.segments.length }
}

async function coldCalls({ ground }: Work, tool: WalTool): Promise<Call[]> {
  const dataDirectory = await ground.copyBase()
  const log = new CallLog(ground)
  for (const name of ground.segments.slice(0, COLD_CALLS)) {
    const call = { name, path: 'pg_wal/RECOVERYXLOG', dataDirectory }
    await log.run(tool.restoreCommand(dataDirectory), tool.marks.fetch, call)
    await tool.forget(dataDirectory)
  }
  await rm(dataDirectory, { recursive: true })
  return log.read()
}

/** Each call of a server that recovers, in a run of its own: the clock takes time too. */
async function recoveryCalls({ ground }: Work, tool: WalTool): Promise<Call[]> {
  const log = new CallLog(ground)
  await ground.replay({
    restoreCommand: (directory) => log.around(tool.restoreCommand(directory), tool.marks.fetch),
    forget: tool.forget,
    isProven: false,
  })
  return log.read()
}

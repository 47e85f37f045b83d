import { type Call, CallLog } from './calls.ts'
import type { Section } from './sections.ts'
import { unconfigured, type WalTool } from './tools.ts'
import { takeTurns, type Work } from './work.ts'

/** Single calls, with nothing prepared and nothing else waiting. */
const COLD_CALLS = 20

/** How fast the server's archiver gets rid of waiting segments, and how long single calls take. */
export async function measurePush(work: Work): Promise<Section> {
  const { ground, tools, filled, say } = work
  const calls: Section['calls'] = []
  for (const tool of tools) {
    say(`single calls of ${tool.name}`)
    calls.push({ kind: 'one segment waits', tool: tool.name, calls: await coldCalls(work, tool) })
  }
  for (const tool of tools) {
    say(`each call of ${tool.name} with all segments waiting`)
    const all = await archiverCalls(work, tool)
    const { name } = tool
    calls.push({ kind: 'many wait', tool: name, calls: all })
    calls.push({
      kind: 'many wait: not yet stored',
      tool: name,
      calls: all.filter((call) => !call.isPrepared),
    })
    calls.push({
      kind: 'many wait: already stored',
      tool: name,
      calls: all.filter((call) => call.isPrepared),
    })
  }
  say('each call of a command that does nothing')
  calls.push({ kind: 'a command that does nothing', tool: '/bin/true', calls: await emptyCalls(work) })
  const runs = await takeTurns(work, [...tools, unconfigured(ground)], async (tool) => {
    await tool.prepare()
    const timed = await ground.drain(tool.archiveCommand)
    await tool.forget(ground.cluster.dataDirectory)
    if (tools.includes(tool)) filled.add(tool)
    return { timed, storedBytes: await tool.storedBytes() }
  })
  calls.sort((a, b) => a.kind.localeCompare(b.kind))
  return { runs, calls, base: 'pgrecall', segments: ground.segments.length }
}

/** How fast the server's archiver gets rid of waiting segments, and nothing else. */
export async function measurePushOnly(work: Work): Promise<Section> {
  const { ground, tools } = work
  const runs = await takeTurns(work, tools, async (tool) => {
    await tool.prepare()
    const timed = await ground.drain(tool.archiveCommand)
    await tool.forget(ground.cluster.dataDirectory)
    return { timed, storedBytes: await tool.storedBytes() }
  })
  return { runs, calls: [], base: 'pgrecall', segments: ground.segments.length }
}

async function coldCalls({ ground }: Work, tool: WalTool): Promise<Call[]> {
  await tool.prepare()
  const { dataDirectory } = ground.cluster
  const log = new CallLog(ground)
  for (const name of ground.segments.slice(0, COLD_CALLS)) {
    await ground.makeReady([name])
    await log.run(tool.archiveCommand, tool.marks.push, { name, path: `pg_wal/${name}`, dataDirectory })
    await tool.forget(dataDirectory)
  }
  return log.read()
}

/** What the server's shell and the clock take by themselves. */
async function emptyCalls({ ground }: Work): Promise<Call[]> {
  const log = new CallLog(ground)
  await ground.drain(log.around('/bin/true', '/'))
  return log.read()
}

/** Each call of the server's archiver, in a run of its own: the clock takes time too. */
async function archiverCalls({ ground }: Work, tool: WalTool): Promise<Call[]> {
  await tool.prepare()
  const log = new CallLog(ground)
  await ground.drain(log.around(tool.archiveCommand, tool.marks.push))
  await tool.forget(ground.cluster.dataDirectory)
  return log.read()
}

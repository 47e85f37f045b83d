import { rm } from 'node:fs/promises'
import { execa } from 'execa'
import { type Measured, measure } from '../measure.ts'
import { prove } from '../proof.ts'
import type { ChainRestore } from '../tools/tool.ts'
import { type Chains, say, turned } from './chains.ts'
import { ALL_CHANGES } from './changes.ts'
import { DiskWatch, diskBytes } from './disk-watch.ts'

const LINKS = 5
const SHARE = 0.01

/** One restore of a chain. */
export interface RestoreRun extends Measured {
  tool: string
  round: number
  /** Of the full backup and the incremental ones above it. */
  storedBytes: number
  /** Highest use of the disk beyond that before the restore, and what of it the restored directory has. */
  peakDiskBytes: number
  restoredBytes: number
}

/** A full backup and five incremental ones by each tool, and their restores in all ways, in turn. */
export async function measureRestores(chains: Chains, rounds: number): Promise<RestoreRun[]> {
  await chains.begin()
  for (let link = 1; link <= LINKS; link++) await chains.grow(SHARE, link)
  const ways: { way: ChainRestore; storedBytes: number }[] = []
  for (const tool of chains.tools) {
    const storedBytes = await tool.storedBytes()
    ways.push(...tool.chainRestores.map((way) => ({ way, storedBytes })))
  }
  const runs: RestoreRun[] = []
  for (let round = 1; round <= rounds; round++) {
    for (const { way, storedBytes } of turned(ways, round - 1)) {
      const run = { tool: way.name, round, storedBytes, ...(await measureRestore(way, round, chains)) }
      runs.push(run)
      const peak = `${(run.peakDiskBytes / run.restoredBytes).toFixed(2)} times its size on disk`
      say(`round ${round}: restore by ${way.name} ${run.seconds.toFixed(2)} s, ${peak}`)
    }
  }
  return runs
}

async function measureRestore(way: ChainRestore, round: number, { ground }: Chains) {
  const { scratch } = ground
  const [target, staging] = [await scratch.folder('restored'), await scratch.folder('staging')]
  await execa('sync')
  const command = way.restore(target, staging)
  const watch = await DiskWatch.start(scratch.path)
  // What a tool writes elsewhere for a while is to be seen, too.
  const measured = await measure({ ...command, env: { ...command.env, TMPDIR: scratch.path } }, ground)
  const peakDiskBytes = await watch.end()
  const restoredBytes = await diskBytes(target)
  if (round === 1) await prove(target, ground, ALL_CHANGES)
  await rm(target, { recursive: true })
  await rm(staging, { recursive: true })
  await execa('sync')
  return { ...measured, peakDiskBytes, restoredBytes }
}

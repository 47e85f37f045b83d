import { findPrograms } from '../../test/lab/programs.ts'
import { loadAverage, machineFacts } from '../machine.ts'
import type { IncrementalBenchOptions, IncrementalPart } from '../options.ts'
import { writeBetweenMarks } from '../report.ts'
import { Chains, type IncrementRun } from './chains.ts'
import { measureRestores, type RestoreRun } from './restores.ts'
import { backupTable, growthTable, restoreTable } from './tables.ts'

/** Of the smallest cluster's pages, in clusters of all sizes. */
const GROWTH_SHARE = 0.01
/** To the size that was asked for. */
const GROWTH_SIZES = [1 / 4, 1, 2]

/** What one part found. */
interface Part {
  name: IncrementalPart
  /** Where all was measured on the same one. */
  cluster?: string
  runs: (IncrementRun | RestoreRun)[]
  table: string[]
}

/** Incremental backups, and restores of chains. What one part found is shown and written before the next begins. */
export async function measureIncremental(options: IncrementalBenchOptions): Promise<void> {
  // The lab makes its folders below this, and takes its server from there.
  if (options.folder) process.env.TMPDIR = options.folder
  if (options.postgres) process.env.PGRECALL_TEST_PG_BIN = options.postgres
  const programs = findPrograms()
  if (!programs)
    throw new Error(
      'no PostgreSQL server found: install one, or name the folder of its programs by --postgres',
    )
  const machine = await machineFacts(programs)
  const { only } = options
  if (only.includes('backup') || only.includes('restore')) {
    await using chains = await Chains.create(options.size, options, machine)
    if (only.includes('backup')) await publish(await backups(chains, options), machine, options)
    if (only.includes('restore')) await publish(await restores(chains, options), machine, options)
  }
  if (only.includes('growth')) await publish(await growth(machine, options), machine, options)
}

async function backups(chains: Chains, { changes, rounds }: IncrementalBenchOptions): Promise<Part> {
  await chains.begin()
  const runs: IncrementRun[] = []
  for (let round = 1; round <= rounds; round++) {
    for (const share of changes) runs.push(...(await chains.grow(share, round)))
  }
  return { name: 'backup', cluster: textOf(chains), runs, table: backupTable(runs) }
}

async function restores(chains: Chains, { rounds }: IncrementalBenchOptions): Promise<Part> {
  const runs = await measureRestores(chains, rounds)
  return { name: 'restore', cluster: textOf(chains), runs, table: restoreTable(runs) }
}

const textOf = ({ ground }: Chains) => `${(ground.bytes / 1e9).toFixed(2)} GB in ${ground.files} files`

async function growth(machine: Map<string, string>, options: IncrementalBenchOptions): Promise<Part> {
  const runs: IncrementRun[] = []
  let smallest: number | undefined
  for (const factor of GROWTH_SIZES) {
    await using chains = await Chains.create(options.size * factor, options, machine)
    smallest ??= chains.ground.bytes
    await chains.begin()
    for (let round = 1; round <= options.rounds; round++) {
      runs.push(...(await chains.grow(GROWTH_SHARE, round, smallest)))
    }
  }
  return { name: 'growth', runs, table: growthTable(runs) }
}

async function publish(
  { name, cluster, runs, table }: Part,
  machine: Map<string, string>,
  { json, write }: IncrementalBenchOptions,
): Promise<void> {
  const facts = new Map([...machine, ['load average after', loadAverage()]])
  if (cluster) facts.set('cluster', cluster)
  const text = [...[...facts].map(([fact, value]) => `- ${fact}: ${value}`), '', ...table].join('\n')
  if (write)
    await writeBetweenMarks(`<!-- table: npm run bench -- incremental --only ${name} --write -->`, text)
  console.log(json ? JSON.stringify({ part: name, machine: Object.fromEntries(facts), runs }) : `\n${text}`)
}

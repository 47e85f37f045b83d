import { EXIT_CODES } from '../../src/errors.ts'
import { product } from '../../test/lab/product.ts'
import { findPrograms } from '../../test/lab/programs.ts'
import { loadAverage, machineFacts } from '../machine.ts'
import { type Measured, measure } from '../measure.ts'
import type { ScaleBenchOptions, ScalePart } from '../options.ts'
import { markdownTable, median, writeBetweenMarks } from '../report.ts'
import { ScaleGround, type Size } from './ground.ts'

const COMMANDS = {
  list: ['list'],
  status: ['status'],
  'retention --dry-run': ['retention', '--dry-run'],
}
const HEAD = ['archive', 'command', 'catalog', 'seconds (min to max)', 'CPU s', 'peak MiB']
/** Columns of words, which stand on the left. */
const WORDS = 3

/** Runs of one command on one archive. */
interface Row {
  archive: string
  command: string
  catalog: string
  runs: Measured[]
}

/** What only looks, on archives of many years. */
export async function measureScale(options: ScaleBenchOptions): Promise<void> {
  if (options.folder) process.env.TMPDIR = options.folder
  if (options.postgres) process.env.PGRECALL_TEST_PG_BIN = options.postgres
  const programs = findPrograms()
  if (!programs)
    throw new Error('no PostgreSQL server found: install one, or set PG_BIN to the folder of its programs')
  const machine = await machineFacts(programs)
  for (const part of options.only) {
    const rows = await measureArchive(part, options)
    const facts = new Map([...machine, ['load average after', loadAverage()]])
    const text = reportOf(facts, rows)
    const mark = `<!-- table: npm run bench -- scale --only ${part} --write -->`
    if (options.write) await writeBetweenMarks(mark, text)
    console.log(options.json ? JSON.stringify({ machine: Object.fromEntries(facts), rows }) : `\n${text}`)
  }
}

async function measureArchive(part: ScalePart, options: ScaleBenchOptions): Promise<Row[]> {
  const { name, size } = archiveOf(part, options)
  const rows: Row[] = []
  console.error(`making ${name}`)
  await using ground = await ScaleGround.create(size, async (before) => {
    const runs = [await timed(before, ['catalog', 'rebuild'])]
    rows.push({ archive: name, command: 'catalog rebuild', catalog: 'none', runs })
  })
  for (const isBehind of [true, false])
    for (const [command, args] of Object.entries(COMMANDS)) {
      // Brings it up to date.
      if (!isBehind) await timed(ground, COMMANDS.status)
      const runs: Measured[] = []
      for (let round = 0; round < options.rounds; round++) {
        if (isBehind) await ground.forget()
        runs.push(await timed(ground, args))
      }
      rows.push({ archive: name, command, catalog: isBehind ? 'behind' : 'up to date', runs })
    }
  return rows
}

function archiveOf(part: ScalePart, options: ScaleBenchOptions): { name: string; size: Size } {
  const { backups, segments, bucketSegments, gaps } = options
  const number = (count: number) => count.toLocaleString('en-US')
  const size = { backups, segments, gaps: 0, isInBucket: false }
  const name = `${number(backups)} backups, ${number(segments)} segments`
  if (part === 'gaps') return { name: `${name}, ${number(gaps)} gaps`, size: { ...size, gaps } }
  if (part === 'whole') return { name, size }
  return {
    name: `${number(backups)} backups, ${number(bucketSegments)} segments, S3`,
    size: { ...size, segments: bucketSegments, isInBucket: true },
  }
}

/** One run of the whole program, whose answer nobody reads. That status finds problems is no failure. */
async function timed(ground: ScaleGround, args: string[]): Promise<Measured> {
  const { launcher } = await product()
  const quiet = `"$@" >/dev/null || [ $? = ${EXIT_CODES.problems.code} ]`
  const words = ['--config', ground.configFile, '--no-progress', ...args]
  const measured = await measure({ program: 'sh', args: ['-c', quiet, 'sh', launcher, ...words] }, ground)
  console.error(`${args.join(' ')}: ${measured.seconds.toFixed(2)} s, ${mebibytes(measured)} MiB`)
  return measured
}

function reportOf(facts: Map<string, string>, rows: readonly Row[]): string {
  const cells = rows.map(({ archive, command, catalog, runs }) => {
    const seconds = runs.map((run) => run.seconds)
    const cpuSeconds = median(runs.map((run) => run.cpuSeconds))
    return [
      archive,
      command,
      catalog,
      `${median(seconds).toFixed(2)} (${Math.min(...seconds).toFixed(2)} to ${Math.max(...seconds).toFixed(2)})`,
      cpuSeconds.toFixed(2),
      Math.max(...runs.map(mebibytes)).toFixed(0),
    ]
  })
  return [
    [...facts].map(([name, value]) => `${name}: ${value}`).join('; '),
    '',
    ...markdownTable(HEAD, cells, WORDS),
  ].join('\n')
}

const mebibytes = ({ peakBytes }: Measured) => Math.round(peakBytes / 2 ** 20)

import { findPrograms } from '../../test/lab/programs.ts'
import { mixedData } from '../data.ts'
import { loadAverage, machineFacts } from '../machine.ts'
import { measureSection } from '../measure-section.ts'
import type { LogicalBenchOptions } from '../options.ts'
import { reportAsJson, reportAsText, writeBetweenMarks } from '../report.ts'
import { byHand, pgrecallLogical } from '../tools/dumps.ts'

/** The dump that `pg_dump` alone cannot compress well before 16, and the ways that there are since. */
const TOOLS = [
  pgrecallLogical('pgrecall'),
  byHand('pg_dump -Fc -Z0 | zstd -1', '"$2" -Fc -Z0 | zstd -q -1 > "$1"'),
  byHand('pg_dump -Fp | zstd -1', '"$2" -Fp | zstd -q -1 > "$1"'),
  byHand('pg_dump -Fc -Zzstd:1', '"$2" -Fc -Zzstd:1 > "$1"', 16),
  pgrecallLogical('pgrecall --fingerprint', '--fingerprint'),
]

/** Dumps of one large database, beside what a person would type. */
export async function measureLogical(options: LogicalBenchOptions): Promise<void> {
  if (options.folder) process.env.TMPDIR = options.folder
  if (options.postgres) process.env.PGRECALL_TEST_PG_BIN = options.postgres
  const programs = findPrograms()
  if (!programs)
    throw new Error('no PostgreSQL server found: install one, or set PG_BIN to the folder of its programs')
  const machine = await machineFacts(programs)
  const used = new Map<string, string>()
  const data = options.size >= 1e9 ? `${options.size / 1e9} GB` : `${options.size / 1e6} MB`
  const section = { data, fill: mixedData(options.size), operations: ['backup' as const] }
  const runs = await measureSection(section, TOOLS, options, used)
  const report = {
    machine: new Map([...machine, ...used, ['load average after', loadAverage()]]),
    runs,
  }
  const mark = `<!-- table: npm run bench -- logical, ${programs.major < 16 ? 'before 16' : '16 and later'} -->`
  if (options.write) await writeBetweenMarks(mark, reportAsText(report))
  console.log(options.json ? reportAsJson(report) : `\n${reportAsText(report)}`)
}

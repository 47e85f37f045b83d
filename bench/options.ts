import { Command, InvalidArgumentError, Option } from 'commander'

export const PHASES = ['backup', 'restore', 'small'] as const
export const TOOLS = ['pgrecall', 'pgbackrest', 'pg_basebackup', 'tar'] as const
export const WAL_PHASES = ['push', 'fetch', 'replay'] as const
export const S3_PARTS = ['backup', 'wal', 'list'] as const
export const SCALE_PARTS = ['whole', 'gaps', 's3'] as const
export const INCREMENTAL_PARTS = ['backup', 'growth', 'restore'] as const
export const CHAIN_TOOLS = ['pgrecall', 'pgbackrest', 'pg_basebackup'] as const
export type ChainToolName = (typeof CHAIN_TOOLS)[number]
export type IncrementalPart = (typeof INCREMENTAL_PARTS)[number]
export type ScalePart = (typeof SCALE_PARTS)[number]
export type S3Part = (typeof S3_PARTS)[number]
export type Phase = (typeof PHASES)[number]
export type WalPhase = (typeof WAL_PHASES)[number]
export type ToolName = (typeof TOOLS)[number]

export interface BenchOptions {
  /** Bytes of the large cluster, roughly. */
  size: number
  rounds: number
  smallTables: number
  jobs: number
  only: Phase[]
  tools: ToolName[]
  folder?: string
  json: boolean
  write: boolean
}

export interface WalBenchOptions {
  /** At least so many segments of 16 MiB. */
  segments: number
  rounds: number
  jobs: number
  only: WalPhase[]
  folder?: string
  json: boolean
  write: boolean
}

export interface S3BenchOptions {
  /** Bytes of the cluster, roughly. */
  size: number
  /** Segments of WAL, at least. */
  segments: number
  rounds: number
  jobs: number
  only: S3Part[]
  folder?: string
  json: boolean
  write: boolean
}

export interface IncrementalBenchOptions {
  /** Bytes of the cluster, roughly; the growth is looked at with a quarter and twice of that, too. */
  size: number
  /** Shares of the pages that change between two backups. */
  changes: number[]
  rounds: number
  jobs: number
  only: IncrementalPart[]
  tools: ChainToolName[]
  /** Folder of PostgreSQL's programs. */
  postgres?: string
  /** pgBackRest's program. */
  pgbackrest?: string
  folder?: string
  json: boolean
  write: boolean
}

export interface LogicalBenchOptions {
  /** Bytes of the cluster, roughly; a dump has no indexes and no free space, and is half of that. */
  size: number
  rounds: number
  jobs: number
  /** Folder of PostgreSQL's programs. */
  postgres?: string
  folder?: string
  json: boolean
  write: boolean
}

export interface ScaleBenchOptions {
  backups: number
  /** Segments of WAL. */
  segments: number
  /** The same in a bucket, where each is a request. */
  bucketSegments: number
  gaps: number
  rounds: number
  only: ScalePart[]
  /** Folder of PostgreSQL's programs. */
  postgres?: string
  folder?: string
  json: boolean
  write: boolean
}

/** What each of the benchmarks does with its options. */
export interface Benchmarks {
  backups(options: BenchOptions): Promise<void>
  wal(options: WalBenchOptions): Promise<void>
  s3(options: S3BenchOptions): Promise<void>
  incremental(options: IncrementalBenchOptions): Promise<void>
  logical(options: LogicalBenchOptions): Promise<void>
  scale(options: ScaleBenchOptions): Promise<void>
}

export async function runChosen(benchmarks: Benchmarks): Promise<void> {
  const { backups, wal, s3, incremental, logical, scale } = benchmarks
  const program = new Command('npm run bench --')
    // All have options of the same names.
    .enablePositionalOptions()
    .description('Measures backup and restore of pgrecall and of others, in turn, on clusters of its own')
    .addOption(
      new Option('--size <size>', 'of the large cluster, roughly').argParser(asBytes).default(4e9, '4GB'),
    )
    .option('--rounds <number>', 'how often each is measured', asCount, 3)
    .option('--small-tables <number>', 'in the second cluster', asCount, 20_000)
    .option('--jobs <number>', 'workers of each tool', asCount, 2)
    .option('--only <phases>', `some of ${PHASES.join(', ')}`, listOf(PHASES), [...PHASES])
    .option('--tools <names>', `some of ${TOOLS.join(', ')}`, listOf(TOOLS), [...TOOLS])
  addCommon(program).action((options: BenchOptions) => backups(options))
  const walCommand = program
    .command('wal')
    .description('Measures archiving and fetching of WAL, in turn, driven by servers of its own')
    .option('--segments <number>', 'of 16 MiB each', asCount, 200)
    .option('--rounds <number>', 'how often archiving and replay are measured', asCount, 2)
    .option('--jobs <number>', 'workers of each tool', asCount, 2)
    .option('--only <phases>', `some of ${WAL_PHASES.join(', ')}`, listOf(WAL_PHASES), [...WAL_PHASES])
  addCommon(walCommand).action((options: WalBenchOptions) => wal(options))
  const s3Command = program
    .command('s3')
    .description(
      'Measures backup, restore, WAL and list against an S3 server of its own, and what encryption costs',
    )
    .addOption(new Option('--size <size>', 'of the cluster, roughly').argParser(asBytes).default(2e9, '2GB'))
    .option('--segments <number>', 'of WAL, 16 MiB each', asCount, 100)
    .option('--rounds <number>', 'how often each is measured', asCount, 3)
    .option('--jobs <number>', 'workers of each tool', asCount, 2)
    .option('--only <parts>', `some of ${S3_PARTS.join(', ')}`, listOf(S3_PARTS), [...S3_PARTS])
  addCommon(s3Command).action((options: S3BenchOptions) => s3(options))
  const incrementalCommand = program
    .command('incremental')
    .description('Measures incremental backups, and restores of a full backup with five of them, in turn')
    .addOption(new Option('--size <size>', 'of the cluster, roughly').argParser(asBytes).default(4e9, '4GB'))
    .addOption(
      new Option('--changes <shares>', 'of the pages, between two backups')
        .argParser(asShares)
        .default([0.001, 0.01, 0.1], '0.1%,1%,10%'),
    )
    .option('--rounds <number>', 'how often each is measured', asCount, 3)
    .option('--jobs <number>', 'workers of each tool', asCount, 2)
    .option('--only <parts>', `some of ${INCREMENTAL_PARTS.join(', ')}`, listOf(INCREMENTAL_PARTS), [
      ...INCREMENTAL_PARTS,
    ])
    .option('--tools <names>', `some of ${CHAIN_TOOLS.join(', ')}`, listOf(CHAIN_TOOLS), [...CHAIN_TOOLS])
    .option(
      '--postgres <dir>',
      "folder of PostgreSQL's programs, 17 or later (default: as the tests find them)",
    )
    .option('--pgbackrest <program>', 'one that knows this PostgreSQL (default: the one of PATH)')
  addCommon(incrementalCommand).action((options: IncrementalBenchOptions) => incremental(options))
  const logicalCommand = program
    .command('logical')
    .description('Measures the dump of one large database, beside pg_dump and zstd by hand')
    .addOption(new Option('--size <size>', 'of the cluster, roughly').argParser(asBytes).default(4e9, '4GB'))
    .option('--rounds <number>', 'how often each is measured', asCount, 3)
    .option('--jobs <number>', 'databases at once; there is one', asCount, 2)
    .option('--postgres <dir>', "folder of PostgreSQL's programs (default: as the tests find them)")
  addCommon(logicalCommand).action((options: LogicalBenchOptions) => logical(options))
  const scaleCommand = program
    .command('scale')
    .description('Measures list, status and retention --dry-run of an archive that has grown for years')
    .option('--backups <number>', 'six hours apart', asCount, 10_000)
    .option('--segments <number>', 'of WAL', asCount, 1_000_000)
    .option(
      '--bucket-segments <number>',
      'of WAL in the S3 server, which takes minutes to take them in',
      asCount,
      20_000,
    )
    .option('--gaps <number>', 'in the WAL of the second archive', asCount, 1000)
    .option('--rounds <number>', 'how often each is measured', asCount, 5)
    .option('--only <parts>', `some of ${SCALE_PARTS.join(', ')}`, listOf(SCALE_PARTS), [...SCALE_PARTS])
    .option('--postgres <dir>', "folder of PostgreSQL's programs (default: as the tests find them)")
  addCommon(scaleCommand).action((options: ScaleBenchOptions) => scale(options))
  await program.parseAsync()
}

function addCommon(command: Command): Command {
  return command
    .option('--folder <dir>', 'where to work, such as /dev/shm; a short path (default: the temporary folder)')
    .addOption(new Option('--json', 'print every run as JSON').default(false))
    .addOption(new Option('--write', 'put the tables into bench/README.md').default(false))
}

function asBytes(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)\s*(MB|GB)$/i.exec(text) ?? []
  if (!number) throw new InvalidArgumentError('It is a number with MB or GB, such as 4GB.')
  return Number(number) * (unit!.toUpperCase() === 'GB' ? 1e9 : 1e6)
}

function asShares(text: string): number[] {
  return text.split(',').map((word) => {
    const [, percentage] = /^(\d+(?:\.\d+)?)%$/.exec(word.trim()) ?? []
    const share = Number(percentage) / 100
    if (!(share > 0 && share <= 1))
      throw new InvalidArgumentError('They are percentages, such as 0.1%,1%,10%.')
    return share
  })
}

function asCount(text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new InvalidArgumentError('It is a whole number from 1 on.')
  return Number(text)
}

function listOf<Name extends string>(names: readonly Name[]): (text: string) => Name[] {
  return (text) =>
    text.split(',').map((word) => {
      const name = names.find((candidate) => candidate === word.trim())
      if (!name) throw new InvalidArgumentError(`${word} is none of ${names.join(', ')}.`)
      return name
    })
}

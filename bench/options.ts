import { Command, InvalidArgumentError, Option } from 'commander'

export const PHASES = ['backup', 'restore', 'small'] as const
export const TOOLS = ['pgrecall', 'pgbackrest', 'pg_basebackup', 'tar'] as const
export type Phase = (typeof PHASES)[number]
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

export function readOptions(): BenchOptions {
  const program = new Command('npm run bench --')
    .description('Measures backup and restore of pgrecall and of others, in turn, on clusters of its own')
    .addOption(
      new Option('--size <size>', 'of the large cluster, roughly').argParser(asBytes).default(4e9, '4GB'),
    )
    .option('--rounds <number>', 'how often each is measured', asCount, 3)
    .option('--small-tables <number>', 'in the second cluster', asCount, 20_000)
    .option('--jobs <number>', 'workers of each tool', asCount, 2)
    .option('--only <phases>', `some of ${PHASES.join(', ')}`, listOf(PHASES), [...PHASES])
    .option('--tools <names>', `some of ${TOOLS.join(', ')}`, listOf(TOOLS), [...TOOLS])
    .option('--folder <dir>', 'where to work, such as /dev/shm; a short path (default: the temporary folder)')
    .addOption(new Option('--json', 'print every run as JSON').default(false))
    .addOption(new Option('--write', 'put the table into bench/README.md').default(false))
  return program.parse().opts<BenchOptions>()
}

function asBytes(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?)\s*(MB|GB)$/i.exec(text) ?? []
  if (!number) throw new InvalidArgumentError('It is a number with MB or GB, such as 4GB.')
  return Number(number) * (unit!.toUpperCase() === 'GB' ? 1e9 : 1e6)
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

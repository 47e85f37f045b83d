import type { Command } from 'commander'
import { EXIT_CODES } from '../errors.ts'
import { examplesOf } from './program.ts'

/** What of the environment is read. */
const ENVIRONMENT: [names: string[], text: string][] = [
  [['PGRECALL_CONFIG'], 'The configuration file, unless --config names one.'],
  [
    ['PGHOST', 'PGPORT', 'PGUSER', 'PGDATABASE', 'PGPASSWORD'],
    'How to reach the server, where the configuration does not say it; see libpq.',
  ],
  [
    ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_PROFILE', 'AWS_REGION'],
    "Keys and region of buckets, as AWS's own tools take them.",
  ],
  [['XDG_CONFIG_HOME', 'XDG_DATA_HOME'], 'In place of ~/.config and ~/.local/share.'],
  [['PATH'], "Where PostgreSQL's programs are looked for first."],
  [['NO_COLOR', 'FORCE_COLOR'], 'No colours; colours also where the output is no terminal.'],
]

const FILES: [path: string, text: string][] = [
  [
    '~/.config/pgrecall/config.yaml',
    'The configuration, where neither --config nor PGRECALL_CONFIG names one.',
  ],
  ['/etc/pgrecall/config.yaml', 'The same, where that is not there.'],
  ['~/.local/share/pgrecall', 'The repository, where there is no configuration.'],
  ['~/.cache/pgrecall', 'What makes starting fast. It can be removed.'],
  ['~/.pgpass', 'Passwords of servers; see libpq.'],
  [
    'pg_wal/pgrecall',
    'In a data directory: notes between the calls of wal-push and wal-fetch. It is in no backup.',
  ],
]

/**
 * Writes the manual page: every command and option of the help, with exit codes, environment and files.
 * @param program the whole command tree
 * @returns roff, in the macros of man(7)
 * @see https://man7.org/linux/man-pages/man7/man.7.html
 */
export function manualPage(program: Command, version: string): string {
  const help = program.createHelp()
  const commands = commandsBelow(program)
  const lines = [
    `.TH PGRECALL 1 "" "pgrecall ${plain(version)}" "pgrecall"`,
    // Justified lines tear holes around long options.
    '.ad l',
    '.nh',
    '.SH NAME',
    `pgrecall \\- ${plain('backups of PostgreSQL that are proven to restore')}`,
    '.SH SYNOPSIS',
    `.B ${plain(program.name())}`,
    plain(program.usage()),
    '.SH DESCRIPTION',
    plain(program.description()),
    'Results go to standard output, everything else to standard error.',
    '.SH OPTIONS',
    plain('Every command takes these, before its name or behind it.'),
    ...help
      .visibleOptions(program)
      .flatMap((option) => entry(help.optionTerm(option), help.optionDescription(option))),
    '.SH COMMANDS',
    ...commands.flatMap(commandSection),
    '.SH EXIT STATUS',
    ...entry('0', 'done'),
    ...Object.values(EXIT_CODES).flatMap(({ code, meaning }) => entry(String(code), meaning)),
    '.SH ENVIRONMENT',
    ...ENVIRONMENT.flatMap(([names, text]) => entry(names.join(', '), text)),
    '.SH FILES',
    ...FILES.flatMap(([path, text]) => entry(path, text)),
    '.SH EXAMPLES',
    'The first day, every night, and the day when it matters:',
    ...exampleBlock(examplesOf(program)),
    '.SH SEE ALSO',
    ['pg_basebackup', 'pg_dump', 'pg_combinebackup', 'age', 'zstd']
      .map((name) => `.BR ${plain(name)} (1)`)
      .join(',\n'),
  ]
  return `${lines.join('\n')}\n`
}

/** All that the help shows and that do something, the ones of a group by their whole name. */
function commandsBelow(command: Command): Command[] {
  const below = command
    .createHelp()
    .visibleCommands(command)
    .filter((child) => child.name() !== 'help')
  return below.flatMap((child) => (child.commands.length > 0 ? commandsBelow(child) : [child]))
}

function commandSection(command: Command): string[] {
  const help = command.createHelp()
  const options = help.visibleOptions(command).filter((option) => option.long !== '--help')
  const heading = (name: string | undefined) => (name ? ['.PP', `.I ${plain(name)}`] : [])
  let group: string | undefined
  return [
    `.SS ${plain(help.commandUsage(command))}`,
    plain(sentence(command.description())),
    ...help
      .visibleArguments(command)
      .flatMap((argument) => entry(help.argumentTerm(argument), help.argumentDescription(argument))),
    ...options.flatMap((option) => {
      const begins = option.helpGroupHeading !== group
      group = option.helpGroupHeading
      return [
        ...(begins ? heading(group) : []),
        ...entry(help.optionTerm(option), help.optionDescription(option)),
      ]
    }),
    ...exampleBlock(examplesOf(command)),
  ]
}

const entry = (term: string, text: string) => ['.TP', `.B ${plain(term)}`, plain(sentence(text))]

const exampleBlock = (examples: readonly string[]) =>
  examples.length === 0 ? [] : ['.PP', '.EX', ...examples.map((line) => `  ${plain(line)}`), '.EE']

/** What begins with a value that can be typed keeps its first letter. A list or a text that is empty is no default to speak of. */
function sentence(text: string): string {
  const told = text.replace(/ \(default: (?:\[\]|"")\)$/, '').replace(/\.$/, '')
  return /^\w+[:;]/.test(told) ? `${told}.` : `${told.slice(0, 1).toUpperCase()}${told.slice(1)}.`
}

/** A line of text as roff takes it: hyphens of options stay such, and nothing at its beginning is a request. */
function plain(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll("'", '\\(aq')
    .replaceAll('"', '\\(dq')
    .replaceAll('~', '\\(ti')
    .replaceAll('^', '\\(ha')
    .replace(/^\./, '\\&.')
}

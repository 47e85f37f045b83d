import { Argument, Command, Option } from 'commander'
import { EXIT_CODES } from '../errors.ts'
import { declareBackup } from './declare-backup.ts'
import { declareReport } from './declare-report.ts'
import { declareRestore } from './declare-restore.ts'
import { declareRetention } from './declare-retention.ts'
import { declareSchedule } from './declare-schedule.ts'
import { declareVerify } from './declare-verify.ts'
import type { Declare, Invocation } from './invocation.ts'
import { wholeNumber } from './option-values.ts'

/**
 * Declares the command line: what `--help`, the completions and the parser know.
 * @param run is called once with what was asked for
 */
export function buildProgram(version: string, run: (invocation: Invocation) => Promise<void>): Command {
  const program = new Command('pgrecall')
    .description('Backups of PostgreSQL that are proven to restore, with tools you already have.')
    .version(version, '-V, --version', 'print the version')
    .option(
      '-c, --config <file>',
      'the configuration (default: $PGRECALL_CONFIG, ~/.config/pgrecall/config.yaml, /etc/pgrecall/config.yaml)',
    )
    .option('--cluster <name>', 'the cluster, where the configuration has several')
    .option('--repository <name>', 'only this one, any of the configuration (default: all of the cluster)')
    .option('--json', 'print the result as JSON')
    .addOption(
      new Option('--log-level <level>', 'how much is logged').choices([
        'error',
        'warn',
        'info',
        'debug',
        'trace',
      ]),
    )
    .option('-q, --quiet', 'print nothing but warnings and errors')
    .option('--no-progress', 'no progress bars')
    .configureHelp({ sortSubcommands: false, showGlobalOptions: true })
    .helpCommand(true)
    .addHelpText('after', () => examples(EXAMPLES) + exitCodeHelp())
    .showSuggestionAfterError()
  shown.set(program, EXAMPLES)

  const add: Declare = (name, text, more = [], hidden = false) => {
    const words = name.split(' ')
    let parent = program
    for (const word of words.slice(0, -1)) {
      parent = parent.commands.find((child) => child.name() === word) ?? parent.command(word)
    }
    const command = parent.command(words.at(-1)!, { hidden })
    shown.set(command, more)
    return command
      .description(text)
      .addHelpText('after', () => examples(more))
      .action((...parameters) => {
        const command = parameters.at(-1) as Command
        return run({ command: name, args: command.args, options: command.optsWithGlobals() })
      })
  }

  add(
    'init',
    'Make a configuration for the cluster that runs here, and print the lines for postgresql.conf',
    ['pgrecall init --path /var/lib/pgrecall'],
  )
    .option('--path <dir>', 'where the repository is to be')
    .option('--output <file>', 'where to write the configuration')
    .option('--force', 'replace an existing configuration')

  add(
    'check',
    'Look for all that would make a backup or a restore fail, and send a real WAL segment through the archive',
    ['pgrecall check && echo "ready for tonight"', 'pgrecall check --read-only'],
  )
    .option('--timeout <seconds>', 'how long to wait for the segment', wholeNumber(1), 60)
    .option('--read-only', 'change nothing: end no WAL segment, and write no object to try the repositories')

  declareBackup(add)

  add('list', 'List backups and the WAL in the archive', [
    'pgrecall list --json | jq ".[].backups[].id"',
    'pgrecall list --timeline',
  ]).option('--timeline', 'draw what can be recovered, and by which backups, as a picture of time')

  add('show', 'Show one backup with everything that is recorded of it', [
    'pgrecall show latest',
    'pgrecall show 20261120T231500Z-logical --contents --database shop --type TABLE',
  ])
    .addArgument(new Argument('[id]', 'the backup').default('latest'))
    .option('--contents', 'list what is inside of a logical backup, without reading its dumps')
    .option('--database <name>', 'with --contents: of this database only')
    .option('--type <type>', 'with --contents: things of this type only, as pg_restore --list calls it')

  declareRestore(add)

  declareRetention(add)

  add(
    'status',
    'Say what can be recovered, how far the archive is behind, and what is wrong; exit code 12 when something is',
    [
      'pgrecall status',
      'pgrecall status --json | jq ".[].windows"',
      'pgrecall status --format prometheus --output /var/lib/node_exporter/pgrecall.prom',
      'pgrecall status --format nagios   # exit codes of plugins: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN',
    ],
  )
    .addOption(
      new Option('--format <format>', 'for people (text), programs, or monitors').choices([
        'text',
        'json',
        'prometheus',
        'nagios',
      ]),
    )
    .option('--output <file>', 'write into this file, whole and by rename, and print nothing')

  declareReport(add)

  add('wal-push', 'Archive WAL; PostgreSQL runs this as archive_command', [
    `archive_command = 'pgrecall wal-push "%p"'`,
    'pgrecall wal-push --from-directory /mnt/archive --remove   # from cron, where archive_command only copies',
  ])
    .addArgument(new Argument('[path]', 'the file, %p in archive_command'))
    .option('--from-directory <dir>', 'archive every WAL file that lies in this folder')
    .option('--remove', 'with --from-directory: remove each file once it is stored')

  add('wal-fetch', 'Fetch one WAL file; PostgreSQL runs this as restore_command', [
    `restore_command = 'pgrecall wal-fetch "%f" "%p"'`,
  ])
    .addArgument(new Argument('<file>', 'the name of the WAL file, %f in restore_command'))
    .addArgument(new Argument('<destination-path>', 'where to put it, %p in restore_command'))

  add('wal-prefetch', 'Keep the next WAL ready for a recovery; wal-fetch starts this', [], true).addArgument(
    new Argument('<file>', 'the segment after which to begin'),
  )

  add('wal-receive', 'Receive WAL as it is written, through a replication slot, and archive it', [
    'pgrecall wal-receive                   # until it is stopped; systemd runs it',
    'pgrecall wal-receive --synchronous     # as a synchronous standby',
  ])
    .option('--synchronous', 'confirm each write as soon as it is on this disk')
    .option('--drop-slot', 'remove the replication slot, and end')

  declareVerify(add)

  add(
    'consolidate',
    'Make a full backup of a chain of incremental ones, in the repository, without the server',
    [
      'pgrecall consolidate                  # the newest backup, with all that it builds upon',
      'pgrecall consolidate --dry-run',
    ],
  )
    .addArgument(new Argument('[id]', 'the newest link of the chain').default('latest'))
    .option('-j, --jobs <number>', 'how many workers run side by side', wholeNumber(1, 64))
    .option('--dry-run', 'print what would be done and change nothing')

  add('copy', 'Copy backups and their WAL to another repository, as far as they are not there yet', [
    'pgrecall copy --to offsite                   # from cron: a second region',
    'pgrecall copy latest --from local --to offsite',
    'pgrecall copy --to offsite --wal-only        # what an optional repository could not take',
  ])
    .addArgument(new Argument('[ids...]', 'the backups; all when left out; "latest" is the newest'))
    .option('--from <repository>', "where from (default: the cluster's first repository that is not --to)")
    .requiredOption('--to <repository>', 'where to: any repository of the configuration')
    .option('--wal-only', 'no backups; WAL from the oldest backup on that --to has')
    .option('--no-wal', 'backups only; what needs WAL of the archive cannot be restored from there')
    .option('--all-clusters', 'every cluster of the configuration that keeps backups in --from')
    .option('-j, --jobs <number>', 'how many objects are copied side by side', wholeNumber(1, 64), 4)
    .option('--dry-run', 'print what would be copied and change nothing')

  program.command('key').description('Keys of encrypted repositories')
  add('key new', 'Make a secret key, in a file that age reads too, and print its public key', [
    'pgrecall key new --output identity.txt   # not on the database host',
  ])
    .option('--output <file>', 'where to write the secret key; a file that exists is never overwritten')
    .option('--passphrase-file <file>', 'encrypt it with the passphrase on the first line of this file')
    .option('--post-quantum', 'a hybrid key, which a quantum computer would not break either')
  add(
    'key rotate',
    'Encrypt what is stored of a cluster for the recipients that are configured now; only headers are replaced',
    ['pgrecall key rotate --dry-run', 'pgrecall key rotate --repository offsite'],
  )
    .option('-j, --jobs <number>', 'how many objects are worked on side by side', wholeNumber(1, 64), 4)
    .option('--dry-run', 'say how many objects would get a new header, and change nothing')

  program.command('catalog').description('Work on the catalog of backups and WAL')
  add('catalog rebuild', 'Make catalog.json again from what is stored, in each repository', [
    'pgrecall catalog rebuild --repository offsite   # its catalog was lost',
  ])

  declareSchedule(add, program)

  add('completion', 'Print a completion script', ['source <(pgrecall completion bash)']).addArgument(
    new Argument('<shell>', 'for which shell').choices(['bash', 'zsh', 'fish']),
  )
  for (const group of program.commands.filter(({ commands }) => commands.length > 0))
    group.addHelpText('after', () => examples(group.commands.flatMap((command) => examplesOf(command))))
  return program
}

const EXAMPLES = [
  'pgrecall init                                    # once, on the database host',
  'pgrecall check                                   # is everything in place?',
  'pgrecall backup                                  # now, or from cron',
  'pgrecall restore --time "2026-11-20 17:29"       # when it matters',
]

const shown = new WeakMap<Command, readonly string[]>()

/** The examples that the help of a command shows. */
export function examplesOf(command: Command): readonly string[] {
  return shown.get(command) ?? []
}

function examples(lines: readonly string[]): string {
  return lines.length === 0 ? '' : `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}\n`
}

/** The table of exit codes, as it also stands in the README. */
export function exitCodeHelp(): string {
  const rows = Object.values(EXIT_CODES).map(
    ({ code, meaning }) => `  ${String(code).padStart(3)}  ${meaning}`,
  )
  return `\nExit codes:\n    0  done\n${rows.join('\n')}\nOnly "status --format nagios" has those of a plugin: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.\n`
}

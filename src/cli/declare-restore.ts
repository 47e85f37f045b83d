import { Argument, Option } from 'commander'
import type { Declare } from './invocation.ts'
import { collect, wholeNumber } from './option-values.ts'

export function declareRestore(add: Declare): void {
  add(
    'restore',
    'Restore a cluster, to the end of the WAL or to a moment, from the first repository that can',
    [
      'pgrecall restore --data-directory /var/lib/postgresql/15/restored',
      'pgrecall restore --time "2026-11-20 17:29" --target-action promote --force',
      'pgrecall restore --time "2026-11-20 17:29" --dry-run',
      'pgrecall restore --standby --tablespace /fast=/mnt/fast',
      'pgrecall restore --repository offsite --dry-run',
      'pgrecall restore --delta                   # into the cluster that is there: only what differs is written',
      'pgrecall restore --include-database shop -D /var/lib/postgresql/15/shop',
    ],
  )
    .addArgument(
      new Argument('[id]', 'the backup; the newest that fits the target when left out').default('latest'),
    )
    .option('-D, --data-directory <dir>', "where to (default: the cluster's data directory)")
    .option(
      '--time <moment>',
      'recover to a moment, such as "2026-11-20 17:29:00" (local time unless a zone is given)',
    )
    .option('--lsn <position>', 'recover to a WAL position')
    .option('--xid <id>', 'recover to the end of a transaction')
    .option('--name <name>', 'recover to a restore point')
    .option('--immediate', 'recover only until the backup is consistent')
    .option('--exclusive', 'stop just before the --time, --lsn or --xid instead of just after it')
    .addOption(
      new Option('--target-action <action>', 'what the server does at the target')
        .choices(['pause', 'promote', 'shutdown'])
        .default('pause'),
    )
    .option('--target-timeline <timeline>', 'latest, current, or a number', 'latest')
    .option('--standby', 'go on as a standby')
    .addOption(
      new Option(
        '--archive-mode <mode>',
        'off: a copy beside the living server, which must not archive into the same place',
      )
        .choices(['preserve', 'off'])
        .default('preserve'),
    )
    .option('--tablespace <OLD=NEW>', 'put a tablespace elsewhere (may be repeated)', collect, [])
    .option('-j, --jobs <number>', 'how many workers restore side by side', wholeNumber(1, 64))
    .option(
      '--delta',
      'write only what differs from the cluster that is there, and remove what is not in the backup',
    )
    .option(
      '--include-database <name>',
      'only this database, beside the templates and "postgres" (may be repeated)',
      collect,
      [],
    )
    .option('--exclude-database <name>', 'all but this database (may be repeated)', collect, [])
    .option('--force', 'remove the cluster that is there')
    .option('--dry-run', 'print the plan and change nothing')
}

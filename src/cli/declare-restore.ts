import { Argument, type Command, Option } from 'commander'
import type { Declare } from './invocation.ts'
import { collect, wholeNumber } from './option-values.ts'

export function declareRestore(add: Declare): void {
  const command = add(
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
      'pgrecall restore 20261120T231500Z-logical --host new.example.net',
      'pgrecall restore 20261120T231500Z-logical --database shop --table orders --into shop_before',
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
    .option(
      '-j, --jobs <number>',
      'how many workers restore side by side; of a logical backup sessions, with --staging',
      wholeNumber(1, 64),
    )
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
    .option(
      '--force',
      'remove the cluster that is there; of a logical backup: go into databases that have data',
    )
    .option('--dry-run', 'print the plan and change nothing')
  declareLogical(command)
}

/** Options that are for logical backups only; they are called as those of `pg_restore`. */
function declareLogical(command: Command): void {
  const only = (text: string) => `of a logical backup: ${text}`
  command
    .option('--host <host>', only("the server to restore into (default: the cluster's)"))
    .option('--port <port>', only("that server's port"), wholeNumber(1, 65_535))
    .option(
      '-U, --username <role>',
      only('who connects to it; a password comes from PGPASSWORD or ~/.pgpass'),
    )
    .option(
      '--database <name>',
      only('only this database, or those that fit, with * and ? (may be repeated)'),
      collect,
      [],
    )
    .option('--into <name>', only('restore its one database under another name'))
    .option('--create', only('make databases anew; with --clean those that exist are dropped'))
    .option('--clean', only('drop what exists before it is made again'))
    .option(
      '--table <name>',
      only('only this table, with all that belongs to it (may be repeated)'),
      collect,
      [],
    )
    .option('--schema <name>', only('only this schema (may be repeated)'), collect, [])
    .option('--exclude-schema <name>', only('all but this schema (may be repeated)'), collect, [])
    .option('--schema-only', only('no rows'))
    .option('--data-only', only('rows only'))
    .option('--no-globals', only('no roles and tablespaces'))
    .option('--no-owner', only('whoever connects owns everything, or --role does'))
    .option('--no-privileges', only('no GRANT and REVOKE'))
    .option('--map-role <OLD=NEW>', only('NEW owns and may do what OLD did (may be repeated)'), collect, [])
    .option('--role <role>', only('SET ROLE first'))
    .option('--no-analyze', only('do not gather statistics afterwards'))
    .option('--compare', only('count afterwards, and compare with what backup --fingerprint recorded'))
    .option('--staging <dir>', only('where dumps are put down for --jobs'))
}

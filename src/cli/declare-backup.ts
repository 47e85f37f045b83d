import { Argument, Option } from 'commander'
import type { Declare } from './invocation.ts'
import { collect, wholeNumber } from './option-values.ts'

export function declareBackup(add: Declare): void {
  add('backup', 'Take a backup of a cluster, into all of its repositories at once', [
    'pgrecall backup                       # incremental, where there is a backup to build upon',
    'pgrecall backup --type full',
    'pgrecall backup --label "before the upgrade" --checkpoint spread',
    'pgrecall backup --standalone          # carries its own WAL, needs no archive',
    'pgrecall backup --method stream       # from another host, over the replication protocol',
    'pgrecall backup --max-rate 50MB       # gently, beside the daily work',
    'pgrecall backup --method logical      # dumps of all databases, with roles and tablespaces',
    'pgrecall backup --method logical --database shop --table public.orders -- --no-comments',
    'pgrecall backup --method logical --staging /var/tmp --jobs 8   # several sessions a database',
  ])
    .addArgument(
      new Argument('[options...]', 'with --method logical: behind "--", more options for pg_dump').default(
        [],
        'none',
      ),
    )
    .addOption(
      new Option(
        '--method <method>',
        'files: copy the data directory on this host; stream: over the replication protocol; snapshot: from a snapshot of the volume; cold: a server that is shut down; logical: pg_dump of each database',
      ).choices(['files', 'stream', 'snapshot', 'cold', 'logical']),
    )
    .addOption(
      new Option(
        '--type <type>',
        'full; incr: what changed since the last backup; diff: what changed since the last full one; auto: incr where there is one to build upon, otherwise full',
      ).choices(['auto', 'full', 'incr', 'diff']),
    )
    .option('--label <text>', 'a note that list shows', '')
    .addOption(
      new Option('--checkpoint <mode>', 'start at once (fast) or spread the load (spread)').choices([
        'fast',
        'spread',
      ]),
    )
    .option('--standalone', 'put the WAL that the backup needs into it')
    .option('-j, --jobs <number>', 'how many workers copy side by side', wholeNumber(1, 64))
    .option('--compression <codec>', 'zstd:N, gzip:N or none')
    .option('--max-rate <size>', 'read at most so much a second, such as 50MB')
    .addOption(
      new Option(
        '--checksum-failures <what>',
        'damaged pages: complete the backup and exit with 13 (warn), or keep no backup (fail)',
      ).choices(['warn', 'fail']),
    )
    .option('--no-resume', 'begin anew, also where an interrupted backup could be gone on with')
    .optionsGroup('With --method logical:')
    .option(
      '--database <pattern>',
      'only databases of this name (may be repeated; * and ? stand for any characters)',
      collect,
      [],
    )
    .option('--exclude-database <pattern>', 'all but these databases (may be repeated)', collect, [])
    .option('--table <pattern>', 'only these tables, as pg_dump takes them (may be repeated)', collect, [])
    .option('--exclude-table <pattern>', 'without these tables (may be repeated)', collect, [])
    .option(
      '--exclude-table-data <pattern>',
      'without the rows of these tables (may be repeated)',
      collect,
      [],
    )
    .option('--schema <pattern>', 'only these schemas (may be repeated)', collect, [])
    .option('--exclude-schema <pattern>', 'without these schemas (may be repeated)', collect, [])
    .option('--schema-only', 'definitions without rows')
    .option('--data-only', 'rows without definitions')
    .option('--whole', 'one script of pg_dumpall, instead of an archive for each database')
    .option('--no-globals', 'without roles and tablespaces')
    .option(
      '--staging <folder>',
      'dump each database with as many sessions as --jobs says; such a dump lies in this folder until it is stored',
    )
    .option('--fingerprint', 'record the number of rows and a checksum of each table')
    .option('--lock-wait <seconds>', 'fail after waiting so long for the lock of a table', wholeNumber(1))
}

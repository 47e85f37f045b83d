import { Option } from 'commander'
import type { Declare } from './invocation.ts'
import { wholeNumber } from './option-values.ts'

export function declareBackup(add: Declare): void {
  add('backup', 'Take a backup of a cluster, into all of its repositories at once', [
    'pgrecall backup                       # incremental, where there is a backup to build upon',
    'pgrecall backup --type full',
    'pgrecall backup --label "before the upgrade" --checkpoint spread',
    'pgrecall backup --standalone          # carries its own WAL, needs no archive',
    'pgrecall backup --method stream       # from another host, over the replication protocol',
    'pgrecall backup --max-rate 50MB       # gently, beside the daily work',
  ])
    .addOption(
      new Option(
        '--method <method>',
        'files: copy the data directory on this host; stream: over the replication protocol; snapshot: from a snapshot of the volume; cold: a server that is shut down',
      ).choices(['files', 'stream', 'snapshot', 'cold']),
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
}

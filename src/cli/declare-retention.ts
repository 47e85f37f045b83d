import { Argument } from 'commander'
import type { Declare } from './invocation.ts'
import { wholeNumber } from './option-values.ts'

/** Declares `retention`, `pin` and `unpin`. */
export function declareRetention(add: Declare): void {
  const count = wholeNumber(1)
  add('retention', 'Remove backups that no rule keeps, and WAL that no backup needs, in each repository', [
    'pgrecall retention --dry-run',
    'pgrecall retention --full 2 --window 7d --monthly 12 --dry-run   # what if',
    'pgrecall retention --repository local   # this host may not remove elsewhere',
  ])
    .option(
      '--full <count>',
      'how many full backups to keep, instead of what is configured; so all these',
      count,
    )
    .option('--diff <count>', 'how many differential ones of those that --full keeps', count)
    .option('--incr <count>', 'how many incremental ones of those that --full keeps', count)
    .option('--window <time>', 'any moment of so long stays recoverable: 7d, 36h')
    .option('--daily <count>', 'the newest backup of each of so many days', count)
    .option('--weekly <count>', 'the same of weeks', count)
    .option('--monthly <count>', 'the same of months', count)
    .option('--yearly <count>', 'the same of years', count)
    .option('--minimum <count>', 'so many full backups never go', count)
    .option('--wal <time>', 'so long all WAL stays; of older backups only what makes them consistent')
    .option('--logical <count>', 'how many logical backups to keep', count)
    .option('--dry-run', 'print the plan and change nothing')

  add('pin', 'Keep a backup whatever the rules of the retention say, with all that it builds upon', [
    'pgrecall pin 20261120T231500Z-full --until 2027-12-31 --reason "books of 2026"',
    'pgrecall pin latest --reason "before the upgrade"',
  ])
    .addArgument(new Argument('<id>', 'the backup, of either kind; "latest" is the newest'))
    .option('--until <date>', 'a day, to its end, or a moment (default: for good)')
    .requiredOption('--reason <text>', 'why it stays, for whoever looks at it later')
    .usage('<id> --reason <text> [--until <date>]')

  add('unpin', 'Leave a backup to the rules of the retention again', [
    'pgrecall unpin 20261120T231500Z-full',
  ]).addArgument(new Argument('<id>', 'the backup; "latest" is the newest'))
}

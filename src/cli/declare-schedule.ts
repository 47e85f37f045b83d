import type { Command } from 'commander'
import type { Declare } from './invocation.ts'

export function declareSchedule(add: Declare, program: Command): void {
  program.command('schedule').description('Let backups and all that belongs to them run by themselves')
  add(
    'schedule print',
    'Print what runs backups, verification and retention by the schedule of the configuration; nothing is installed',
    [
      'pgrecall schedule print --systemd --output /etc/systemd/system',
      'pgrecall schedule print --cron > /etc/cron.d/pgrecall',
      'pgrecall schedule print --kubernetes | kubectl apply -f -',
    ],
  )
    .option('--systemd', 'timers and services')
    .option('--cron', 'a file for /etc/cron.d')
    .option('--kubernetes', 'CronJobs')
    .option('--output <dir>', 'write the files into this folder')

  add(
    'notify',
    'Try every hook and notice of the configuration once, and say how each went; exit code 12 when one failed',
    ['pgrecall notify --cluster main'],
  )
}

import { callOf, fixedDelay, type Job, type ScheduleFile, type SchedulePlan } from './jobs.ts'
import { cronOf, jitterFor } from './when.ts'

/** How long a job waits for another one of the same cluster, in seconds. */
const WAIT_SECONDS = 6 * 60 * 60
const TAKE_LOCK = new Set(['backup', 'retention'])

/**
 * A file for /etc/cron.d. A run says nothing unless something is wrong, and cron mails what is said. Locks are
 * those of `flock` of util-linux.
 * @see https://manpages.debian.org/bookworm/cron/crontab.5.en.html
 */
export function cronFile(plan: SchedulePlan): ScheduleFile {
  const { cluster, timeZone, isOtherZone, schedule, jobs, walReceive } = plan
  const zone =
    isOtherZone && timeZone !== undefined
      ? [
          "# The cron of Debian does not know CRON_TZ, and takes these times for the host's own.",
          `CRON_TZ=${timeZone}`,
        ]
      : []
  const lines = [
    '# Made by "pgrecall schedule print --cron", for /etc/cron.d.',
    'SHELL=/bin/sh',
    'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    ...(schedule.mailTo === undefined ? [] : [`MAILTO=${schedule.mailTo}`]),
    ...zone,
    ...jobs.flatMap((job) => ['', `# ${job.text}`, jobLine(plan, job)]),
    ...(walReceive
      ? ['', '# receives WAL; started again when it has ended', receiverLine(plan, walReceive)]
      : []),
  ]
  return { name: `pgrecall-${cluster}`, text: `${lines.join('\n')}\n` }
}

function jobLine(plan: SchedulePlan, { when, text, args, limitMinutes, next }: Job): string {
  const { host, cluster, schedule, user } = plan
  const jitter = jitterFor(when, schedule.jitter / 60_000)
  const time = cronOf(when, fixedDelay(`${host}/${cluster}`, jitter))
  const limit = limitMinutes === undefined ? '' : `timeout --kill-after=2m ${limitMinutes}m `
  const commands = [args, ...(next ? [next.args] : [])].map(
    (words) => `${lock(plan, words[0]!)} ${limit}${quietCall(plan, words)}`,
  )
  // Who was killed, or waited in vain, has said nothing.
  const last = `echo "pgrecall, ${text} of cluster ${cluster}: exit code $?"`
  return `${time}  ${user}  ${forCron(`${commands.join(' && ')} || ${last}`)}`
}

/** Those that take the lock of the cluster wait for each other; the others are left out while the last of them still runs. */
function lock({ cluster }: SchedulePlan, command: string): string {
  return TAKE_LOCK.has(command)
    ? `flock --wait ${WAIT_SECONDS} --conflict-exit-code 6 "$HOME/.pgrecall-${cluster}.lock"`
    : `flock --nonblock --conflict-exit-code 0 "$HOME/.pgrecall-${cluster}-${command}.lock"`
}

function receiverLine(plan: SchedulePlan, args: readonly string[]): string {
  return `* * * * *  ${plan.user}  ${forCron(`${lock(plan, args[0]!)} ${quietCall(plan, args)}`)}`
}

const quietCall = (plan: SchedulePlan, args: readonly string[]) =>
  [plan.launcher, ...callOf(plan, args), '--quiet'].map(shellWord).join(' ')

/** Quotes only where needed, since people read this. */
function shellWord(text: string): string {
  return /^[\w./+:@%,=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`
}

/** To cron, a `%` is the end of the line. */
const forCron = (command: string) => command.replaceAll('%', '\\%')

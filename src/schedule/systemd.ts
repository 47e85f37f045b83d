import { callOf, JOB_NAMES, type Job, type ScheduleFile, type SchedulePlan } from './jobs.ts'
import { isOften, jitterFor, systemdOf } from './when.ts'

/** How many times a job is tried again, five minutes apart, while another one holds the lock. */
const RETRIES = 60
const LIMIT_HOURS = 6

/**
 * Units for systemd 249 or later (OnSuccess=): a timer and a service for each job, one service that tells of failures,
 * and one for `wal-receive`.
 * @see https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html
 */
export function systemdUnits(plan: SchedulePlan): ScheduleFile[] {
  const followUps = new Map(plan.jobs.flatMap(({ next }) => (next ? [[next.name, next] as const] : [])))
  return [
    ...plan.jobs.flatMap((job) => [
      { name: `${unitOf(plan, job.name)}.timer`, text: timer(plan, job) },
      { name: `${unitOf(plan, job.name)}.service`, text: service(plan, job) },
    ]),
    ...[...followUps.values()].map((next) => ({
      name: `${unitOf(plan, next.name)}.service`,
      text: service(plan, next),
    })),
    ...(plan.walReceive
      ? [{ name: `${unitOf(plan, 'receive')}.service`, text: receiver(plan, plan.walReceive) }]
      : []),
    { name: `${unitOf(plan, 'alert')}@.service`, text: alert(plan) },
  ]
}

/** What has to be stopped, of all units that a cluster may have got from an earlier schedule. */
export function formerUnits(plan: SchedulePlan, present: readonly string[]): string[] {
  const own = new Set(systemdUnits(plan).map(({ name }) => name))
  const possible = [
    ...JOB_NAMES.map((name) => `${unitOf(plan, name)}.timer`),
    `${unitOf(plan, 'receive')}.service`,
  ]
  return possible.filter((name) => present.includes(name) && !own.has(name))
}

const unitOf = ({ cluster }: SchedulePlan, name: string) => `pgrecall-${cluster}-${name}`

function timer({ cluster, timeZone, schedule }: SchedulePlan, { text, when }: Job): string {
  const jitter = jitterFor(when, schedule.jitter / 60_000)
  return ini({
    Unit: [`Description=pgrecall: ${text} (cluster ${cluster})`],
    Timer: [
      `OnCalendar=${systemdOf(when, timeZone)}`,
      ...(jitter > 0 ? [`RandomizedDelaySec=${jitter}min`, 'FixedRandomDelay=true'] : []),
      // What was missed while the host was off is made up for.
      ...(isOften(when) ? [] : ['Persistent=true']),
    ],
    Install: ['WantedBy=timers.target'],
  })
}

function service(plan: SchedulePlan, job: Omit<Job, 'when'>): string {
  return ini({
    Unit: [
      `Description=pgrecall: ${job.text} (cluster ${plan.cluster})`,
      'Wants=network-online.target',
      'After=network-online.target postgresql.service',
      `OnFailure=${unitOf(plan, 'alert')}@%N.service`,
      ...(job.next ? [`OnSuccess=${unitOf(plan, job.next.name)}.service`] : []),
      `StartLimitIntervalSec=${LIMIT_HOURS}h`,
      `StartLimitBurst=${RETRIES + plannedStarts(plan, job.name)}`,
    ],
    Service: [
      // Not oneshot, of which systemd starts none again.
      'Type=exec',
      ...call(plan, job.args),
      '# Another one holds the lock of the cluster: try again, for some hours.',
      'RestartForceExitStatus=6',
      '# systemd 254 and later else alert at each try; older ones do not, and say that they do not know this.',
      'RestartMode=direct',
      'RestartSec=5min',
      ...(job.limitMinutes === undefined ? [] : [`RuntimeMaxSec=${job.limitMinutes}min`]),
      'Nice=10',
      'IOSchedulingPriority=7',
      ...sandbox(plan),
    ],
  })
}

/** How often timers begin a job, or what it follows, within the time of the limit; those that do so once a day are among the retries. */
function plannedStarts({ jobs }: SchedulePlan, name: string): number {
  return jobs
    .filter((job) => [job.name, job.next?.name].includes(name))
    .map(({ when }) => ('everyMinutes' in when ? Math.ceil((LIMIT_HOURS * 60) / when.everyMinutes) : 0))
    .reduce((sum, starts) => sum + starts, 0)
}

function receiver(plan: SchedulePlan, args: string[]): string {
  return ini({
    Unit: [
      `Description=pgrecall: receives WAL (cluster ${plan.cluster})`,
      'Wants=network-online.target',
      'After=network-online.target',
      '# Never given up, so never failed: that it does not run, "status" tells.',
      'StartLimitIntervalSec=0',
    ],
    Service: ['Type=exec', ...call(plan, args), 'Restart=on-failure', 'RestartSec=10s', ...sandbox(plan)],
    Install: ['WantedBy=multi-user.target'],
  })
}

function call(plan: SchedulePlan, args: readonly string[]): string[] {
  return [
    `User=${plan.user}`,
    `ExecStart=${program(plan.launcher)} ${callOf(plan, args).map(argument).join(' ')}`,
    '# What was begun is put in order first: a session, a snapshot, the last WAL.',
    'KillMode=mixed',
    'TimeoutStopSec=120s',
    '# Secrets such as AWS_SECRET_ACCESS_KEY=..., which only root can read:',
    'EnvironmentFile=-/etc/pgrecall/environment',
    '# As files: LoadCredential=pgpass:/etc/pgrecall/pgpass, with Environment=PGPASSFILE=%d/pgpass',
  ]
}

/** Not MemoryDenyWriteExecute=, with which no JavaScript runs. */
function sandbox({ needsRights, needsTmp, writes }: SchedulePlan): string[] {
  // Mounting a snapshot is for the host to see, and sudo needs what is taken here.
  if (needsRights) return []
  const paths = [...new Set(writes.map(({ path }) => path))]
  return [
    'UMask=0077',
    'NoNewPrivileges=true',
    'CapabilityBoundingSet=',
    'ProtectSystem=strict',
    'ProtectHome=read-only',
    ...(paths.length > 0 ? [`ReadWritePaths=${paths.map((path) => word(`-${path}`)).join(' ')}`] : []),
    `PrivateTmp=${!needsTmp}`,
    ...(needsTmp ? ['ReadWritePaths=/tmp'] : []),
    'PrivateDevices=true',
    'ProtectControlGroups=true',
    'ProtectKernelLogs=true',
    'ProtectKernelModules=true',
    'ProtectKernelTunables=true',
    'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK',
    'RestrictNamespaces=true',
    'RestrictRealtime=true',
    'RestrictSUIDSGID=true',
    'LockPersonality=true',
    'SystemCallArchitectures=native',
  ]
}

/** Runs when a unit has failed, also where pgrecall could not even start. */
function alert({ cluster, schedule: { mailTo } }: SchedulePlan): string {
  const mail = `{ echo "To: ${mailTo}"; echo "Subject: %i failed on %H"; echo; systemctl status --full --lines=50 "%i.service"; } | /usr/sbin/sendmail -t`
  return ini({
    Unit: [`Description=pgrecall: tells that %i has failed (cluster ${cluster})`],
    Service: [
      'Type=oneshot',
      mailTo === undefined
        ? 'ExecStart=/usr/bin/logger --priority daemon.crit --tag pgrecall "%i failed: journalctl --unit=%i.service"'
        : `ExecStart=/bin/sh -c '${mail}'`,
    ],
  })
}

function ini(sections: Record<string, string[]>): string {
  const parts = Object.entries(sections).map(([name, lines]) => `[${name}]\n${lines.join('\n')}\n`)
  return `# Made by "pgrecall schedule print --systemd". Changes belong into a drop-in: systemctl edit\n${parts.join('\n')}`
}

/** systemd takes no quotes and the like in the name of a program, but in what `env` is told to run. */
function program(path: string): string {
  return /["'\\$]/.test(path) ? `/usr/bin/env ${argument(path)}` : word(path)
}

/** In arguments, `$` begins a variable. */
const argument = (text: string) => word(text.replaceAll('$', '$$$$'))

/**
 * A word of a unit file, in which `%` begins a specifier.
 * @see https://www.freedesktop.org/software/systemd/man/latest/systemd.syntax.html#Quoting
 */
function word(text: string): string {
  const literal = text.replaceAll('%', '%%')
  if (/^[\w./+:@%,=$-]+$/.test(literal)) return literal
  return `"${literal.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
}

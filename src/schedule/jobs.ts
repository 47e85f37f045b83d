import { createHash } from 'node:crypto'
import { onOtherDays, type When } from './when.ts'

/** The schedule of a cluster, as it is configured: what is done, and when; `false` for never. */
export interface Schedule {
  full: When | false
  /** All days that `full` leaves, at the same time, when left out. */
  incremental?: When | false | undefined
  logical: When | false
  verify: { at: When; fraction: string } | false
  retention: When | 'after backup' | false
  status: When | false
  check: When | false
  report: { at: When; output: string } | false
  walReceive: boolean | 'synchronous'
  /** In milliseconds, as all of them. */
  jitter: number
  mailTo?: string | undefined
  kubernetes: KubernetesChoices
}

export interface KubernetesChoices {
  image?: string | undefined
  namespace?: string | undefined
  configMap?: string | undefined
  secret?: string | undefined
  user: number
  /** The PersistentVolumeClaim of a folder. */
  claims: Record<string, string>
}

/** A folder that is written to, or read, with a word for what it is. */
export interface Place {
  name: string
  path: string
}

/** All that the files of a schedule are made of. */
export interface SchedulePlan {
  cluster: string
  jobs: Job[]
  /** Arguments of `wal-receive`, where the cluster has it. */
  walReceive: string[] | undefined
  launcher: string
  configFile: string
  version: string
  /** Whose name the jobs have on a host. */
  user: string
  /** The host's own when undefined. */
  timeZone: string | undefined
  /** Where the time zone is not the one of this host. */
  isOtherZone: boolean
  host: string
  schedule: Schedule
  /** What jobs write to, beside what is made for them alone. */
  writes: Place[]
  /** The data directory, where it is read as files. */
  dataDirectory: string | undefined
  /** Whether the server's socket is in a folder for temporary files, which must not be hidden. */
  needsTmp: boolean
  /** Whether programs with more rights are run, as sudo. */
  needsRights: boolean
}

export interface Job {
  /** As in the names of units. */
  name: string
  /** For people. */
  text: string
  /** The command and its own options. */
  args: string[]
  when: When
  /** For what only looks: who takes longer hangs, as on a server that does not answer, and would keep all later looks away. */
  limitMinutes?: number
  /** What is done once this has ended well. */
  next?: { name: string; text: string; args: string[] } | undefined
}

/** Of a look, in minutes. */
const LOOK_LIMIT = 15
/** Of all jobs that a schedule can have, in the names of units. */
export const JOB_NAMES = [
  'full',
  'incremental',
  'logical',
  'retention',
  'verify',
  'check',
  'status',
  'report',
]
const RETENTION = { name: 'retention', text: 'removes what no rule keeps', args: ['retention'] }

/**
 * The jobs of a schedule, in the order of their importance.
 * @param hasRules whether any retention rule is configured: without one `retention` refuses to work
 */
export function jobsOf(schedule: Schedule, hasRules: boolean): Job[] {
  const { full, logical, verify, retention, status, check, report } = schedule
  const incremental = schedule.incremental ?? (full === false ? false : (onOtherDays(full) ?? false))
  const next = hasRules && retention === 'after backup' ? RETENTION : undefined
  const backup = (name: string, text: string, when: When | false, options: string[]) =>
    when === false ? [] : [{ name, text, args: ['backup', ...options], when, next }]
  const job = (name: string, text: string, when: When | false, args: string[]) =>
    when === false ? [] : [{ name, text, args, when }]
  const look = (...given: Parameters<typeof job>) =>
    job(...given).map((one) => ({ ...one, limitMinutes: LOOK_LIMIT }))
  return [
    ...backup('full', 'full backup', full, ['--type', 'full']),
    // Whatever became of the last full one, there is a backup tonight.
    ...backup('incremental', 'incremental backup', incremental, ['--type', 'auto']),
    ...backup('logical', 'logical backup', logical, ['--method', 'logical']),
    ...(hasRules && retention !== 'after backup'
      ? job('retention', RETENTION.text, retention, RETENTION.args)
      : []),
    ...(verify
      ? job('verify', 'verifies what is stored', verify.at, ['verify', '--fraction', verify.fraction])
      : []),
    ...look('check', 'checks that backups will work', check, ['check']),
    ...look('status', 'looks whether all is well', status, ['status']),
    ...(report ? look('report', 'writes the report', report.at, ['report', '--output', report.output]) : []),
  ]
}

/** The arguments of a whole call, behind the program. */
export function callOf({ cluster, configFile }: SchedulePlan, args: readonly string[]): string[] {
  return ['--config', configFile, '--cluster', cluster, ...args]
}

/** So many minutes later than planned: always the same for a host and cluster, so that not all hosts begin at once. */
export function fixedDelay(name: string, upToMinutes: number): number {
  return createHash('sha256').update(name).digest().readUInt32BE() % (Math.floor(upToMinutes) + 1)
}

/** A file of a schedule, with the name that it has to have. */
export interface ScheduleFile {
  name: string
  text: string
}

import { settingLine } from './setting-line.ts'

/** Where a recovery is to end. Times are as PostgreSQL reads them, with a time zone. */
export type RecoveryTarget =
  | { kind: 'end' }
  | { kind: 'immediate' }
  | { kind: 'time'; time: string }
  | { kind: 'lsn'; lsn: string }
  | { kind: 'xid'; xid: string }
  | { kind: 'name'; name: string }

export interface RecoveryOptions {
  majorVersion: number
  /** What the server runs to fetch a WAL file; a shell command with `%f` and `%p`. */
  restoreCommand: string
  target: RecoveryTarget
  /** Stop just before the target instead of just after it. */
  exclusive: boolean
  action: 'pause' | 'promote' | 'shutdown'
  timeline: 'latest' | 'current' | number
  /** Go on as a standby instead of opening for writes. */
  standby: boolean
  /** Whether WAL is missing right behind what is to be recovered. */
  endsBeforeHole: boolean
  /** Whether the restored server archives its own WAL: as its settings say, or not at all. */
  archiveMode: 'preserve' | 'off'
}

/** What has to stand in the data directory for the server to recover. */
export interface RecoverySettings {
  /** Where `lines` are appended: `postgresql.auto.conf`, or `recovery.conf` before 12. */
  file: 'postgresql.auto.conf' | 'recovery.conf'
  lines: string[]
  /** Appended to `postgresql.auto.conf` in every version. */
  serverLines: string[]
  /** An empty file that tells the server, from 12, to recover. */
  signalFile: 'recovery.signal' | 'standby.signal' | undefined
}

/**
 * The settings of a recovery.
 * @see https://www.postgresql.org/docs/current/runtime-config-wal.html#RUNTIME-CONFIG-WAL-ARCHIVE-RECOVERY
 */
export function recoverySettings(options: RecoveryOptions): RecoverySettings {
  const isOld = options.majorVersion < 12
  const { target } = options
  // A copy that runs beside its original must not archive into the same place. recovery.conf cannot say so.
  const archiving = options.archiveMode === 'off' ? [settingLine('archive_mode', 'off')] : []
  const settings: Setting[] = [['restore_command', options.restoreCommand]]
  if (isOld && options.standby) settings.push(['standby_mode', 'on'])
  // "current" is the default before 12, and no value that the older servers know.
  if (options.timeline !== 'current' || !isOld)
    settings.push(['recovery_target_timeline', String(options.timeline)])
  // What postgresql.conf may still hold of an earlier recovery is taken back, in front of our own target: the server
  // refuses a second one, and an empty one after ours would take that back.
  const own = targetSetting(target)
  if (!isOld)
    settings.push(...TARGET_SETTINGS.filter((name) => name !== own?.[0]).map((name): Setting => [name, '']))
  if (own) settings.push(own)
  if (target.kind !== 'end') settings.push(['recovery_target_action', options.action])
  if (['time', 'lsn', 'xid'].includes(target.kind)) {
    settings.push(['recovery_target_inclusive', options.exclusive ? 'off' : 'on'])
  }
  // It reads ahead, past the target too; and restore_command stops a recovery that asks for what is missing.
  if (options.majorVersion >= 15 && options.endsBeforeHole) settings.push(['recovery_prefetch', 'off'])
  return {
    file: isOld ? 'recovery.conf' : 'postgresql.auto.conf',
    lines: settings.map(([name, value]) => settingLine(name, value)),
    serverLines: archiving,
    signalFile: isOld ? undefined : options.standby ? 'standby.signal' : 'recovery.signal',
  }
}

/** The settings of a server that starts without a recovery. */
export function plainStartSettings(archiveMode: RecoveryOptions['archiveMode']): RecoverySettings {
  const serverLines = archiveMode === 'off' ? [settingLine('archive_mode', 'off')] : []
  return { file: 'postgresql.auto.conf', lines: [], serverLines, signalFile: undefined }
}

type Setting = [name: string, value: string]

const TARGET_SETTINGS = [
  'recovery_target',
  'recovery_target_time',
  'recovery_target_lsn',
  'recovery_target_xid',
  'recovery_target_name',
]

function targetSetting(target: RecoveryTarget): Setting | undefined {
  switch (target.kind) {
    case 'end':
      return undefined
    case 'immediate':
      return ['recovery_target', 'immediate']
    case 'time':
      return ['recovery_target_time', target.time]
    case 'lsn':
      return ['recovery_target_lsn', target.lsn]
    case 'xid':
      return ['recovery_target_xid', target.xid]
    case 'name':
      return ['recovery_target_name', target.name]
  }
}

const RECOVERY_SETTING =
  /^\s*(?:restore_command|recovery_target\w*|recovery_prefetch|standby_mode|primary_conninfo|primary_slot_name|recovery_end_command|archive_cleanup_command)\s*=/i

/**
 * A `postgresql.auto.conf` without the settings of an earlier recovery: two different targets keep a server from
 * starting, and the primary that a failover left behind is not the one to follow.
 */
export function withoutRecoverySettings(text: string): string {
  return text
    .split('\n')
    .filter((line) => !RECOVERY_SETTING.test(line))
    .join('\n')
}

/** A value inside a shell command inside a setting: `%` doubled, and quoted for the shell. */
export function quoteForRestoreCommand(argument: string): string {
  const plain = argument.replaceAll('%', '%%')
  return /^[A-Za-z0-9_./:@=+-]+$/.test(plain) ? plain : `'${plain.replaceAll("'", `'\\''`)}'`
}

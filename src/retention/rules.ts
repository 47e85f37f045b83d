import type { BackupSummary } from '../catalog/backup-record.ts'

/**
 * What is to stay. Rules add up: what any of them wants stays. Spans of time are in milliseconds, and counts at least one.
 * Without a rule for backups all physical ones stay.
 */
export interface RetentionRules {
  /**
   * How many full backups stay that can be recovered, with what builds upon them. Those that cannot be do not count, nor
   * does what builds upon them, which stays until so many full ones are newer.
   */
  full?: number | undefined
  /** How many differential and incremental ones stay of those that `full` keeps; all when left out. */
  diff?: number | undefined
  incr?: number | undefined
  /** Any moment of so long a time stays recoverable, as far as it is now. */
  window?: number | undefined
  /** The newest backup stays of each of the last so many days, weeks, months and years that have one. */
  daily?: number | undefined
  weekly?: number | undefined
  monthly?: number | undefined
  yearly?: number | undefined
  /** Where a day begins: a name of IANA's time zones; UTC when left out. */
  timeZone?: string | undefined
  /** So long a time of WAL stays; of older backups only what makes them consistent. All of it when left out. */
  wal?: number | undefined
  /** So many of the newest full backups that can be recovered stay, whatever the rules and the clocks say; one when left out. */
  minimum?: number | undefined
  /** How many logical backups of the whole cluster stay; all when left out. They have no other rule. */
  logical?: number | undefined
}

/** Who wants a backup to stay. */
export interface Wish {
  rule:
    | 'full'
    | 'diff'
    | 'incr'
    | 'window'
    | 'daily'
    | 'weekly'
    | 'monthly'
    | 'yearly'
    | 'logical'
    | 'pin'
    /** Nobody asked for anything to go. */
    | 'none'
    /** It cannot be recovered, and too few that can are newer. */
    | 'fault'
    /** Its time is later than now, so that no calendar has a place for it. */
    | 'clock'
    | 'minimum'
    | 'reader'
    | 'lock'
    /** One that cannot be read may build upon it. */
    | 'unreadable'
    /** Another one builds upon it. */
    | 'chain'
  /** For people. */
  text: string
}

/** A wish, and of which backup. */
export interface Claim extends Wish {
  backup: BackupSummary
}

export const CALENDAR_RULES = ['daily', 'weekly', 'monthly', 'yearly'] as const
const COUNTS = ['full', 'diff', 'incr', ...CALENDAR_RULES, 'minimum'] as const
const SPANS = ['window', 'wal'] as const

/** Whether there is a rule by which physical backups may go. */
export function hasBackupRule(rules: RetentionRules): boolean {
  return (['full', 'window', ...CALENDAR_RULES] as const).some((rule) => rules[rule] !== undefined)
}

/**
 * What of the rules can be followed where nobody knows what day it is: where a rule that counts time has a say in which backups stay,
 * all of them do, and so does all WAL that they need.
 */
export function withoutTime({ wal: _wal, ...rules }: RetentionRules): RetentionRules {
  const { minimum, logical } = rules
  const countsTime = (['window', ...CALENDAR_RULES] as const).some((rule) => rules[rule] !== undefined)
  return countsTime ? { minimum, logical } : rules
}

/**
 * Why rules that a person gave do not go together, as a sentence without its end; undefined where they do. (A plan that is asked for
 * a window and too little WAL keeps the window.)
 */
export function contradictionIn(rules: RetentionRules): string | undefined {
  const { window, wal } = rules
  if (wal === undefined || window === undefined || wal >= window) return strayCount(rules)
  return `"wal" must not be shorter than "window", which needs the WAL of all its time: ${spanText(wal)} is less than ${spanText(window)}`
}

function strayCount(rules: RetentionRules): string | undefined {
  const stray = (['diff', 'incr'] as const).find((rule) => rules[rule] !== undefined)
  if (rules.full !== undefined || stray === undefined) return undefined
  return `"${stray}" counts within what "full" keeps, and so needs "full"`
}

/** @throws RangeError where a rule makes no sense: whoever asks has to look before */
export function requireSound(rules: RetentionRules): void {
  for (const rule of COUNTS) {
    const count = rules[rule]
    if (count !== undefined && !(count >= 1))
      throw new RangeError(`a rule must keep at least one backup, not ${count}`)
  }
  for (const rule of SPANS) {
    const span = rules[rule]
    if (span !== undefined && !(span > 0)) throw new RangeError(`"${rule}" must be some time, not ${span}`)
  }
  const stray = strayCount(rules)
  if (stray !== undefined) throw new RangeError(stray)
}

const UNITS = [
  ['d', 24 * 60 * 60_000],
  ['h', 60 * 60_000],
  ['min', 60_000],
] as const

/** A span of time as the configuration has it: `7d`, `36h`. @param ms milliseconds */
export function spanText(ms: number): string {
  const [unit, length] = UNITS.find(([, size]) => ms % size === 0) ?? ['ms', 1]
  return `${ms / length}${unit}`
}

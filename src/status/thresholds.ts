/** From when on something is told, and from when on it is a failure; absent is never. Seconds, bytes where the name says so. */
export interface Threshold {
  warn?: number | undefined
  fail?: number | undefined
}

export type Severity = 'ok' | 'warn' | 'fail'

/** docs/monitoring.md has the same table. */
export const THRESHOLDS = {
  /** Of the newest physical backup, or of the newest logical one where there is no other: a weekly one was missed, or two. */
  backupAge: { warn: 8 * 24 * 3600, fail: 15 * 24 * 3600 },
  fullBackupAge: {},
  logicalBackupAge: {},
  /** How long the oldest segment waits to be archived. */
  archiveLate: { warn: 5 * 60, fail: 15 * 60 },
  /** What would be lost with the host, in seconds of commits. */
  rpo: {},
  /** Until pg_wal fills its disk. */
  walDiskFull: { warn: 72 * 3600, fail: 24 * 3600 },
  /** Until the repository is full, at the growth of the last days. */
  repositoryFull: { warn: 72 * 3600, fail: 24 * 3600 },
  freeBytes: {},
  /** Since that object was read whose last verification is longest ago. */
  verificationAge: {},
  /** Since a restore was last proven. */
  provenRestoreAge: {},
} as const satisfies Record<string, Threshold>

export type Thresholds = Record<keyof typeof THRESHOLDS, Threshold>

/** Segments are stored side by side, so for a moment a later one can be there before an earlier one. */
export const SETTLING_SECONDS = 60

/** Where retention removes backups, a repository that would be full without it only has little room. */
const WITH_RETENTION = { ...THRESHOLDS, repositoryFull: { warn: THRESHOLDS.repositoryFull.warn } }

/**
 * @param configured a threshold that is set replaces both of its sides
 * @param isThinned whether some rule lets backups go
 */
export function thresholdsWith(
  configured: { [Name in keyof Thresholds]?: Threshold | undefined },
  isThinned = false,
): Thresholds {
  const set = Object.fromEntries(
    Object.entries(configured).filter(([, threshold]) => threshold !== undefined),
  )
  return { ...(isThinned ? WITH_RETENTION : THRESHOLDS), ...set }
}

/** The severity of something that is worse the more there is of it. */
export function severityAbove(value: number, { warn, fail }: Threshold): Severity {
  if (fail !== undefined && value > fail) return 'fail'
  return warn !== undefined && value > warn ? 'warn' : 'ok'
}

/** The same where less is worse. */
export function severityBelow(value: number, { warn, fail }: Threshold): Severity {
  if (fail !== undefined && value < fail) return 'fail'
  return warn !== undefined && value < warn ? 'warn' : 'ok'
}

export const worstOf = (severities: readonly Severity[]): Severity =>
  severities.includes('fail') ? 'fail' : severities.includes('warn') ? 'warn' : 'ok'

import { formatLsn, type Lsn, lsn } from './lsn.ts'
import { parseWalFile } from './wal-file.ts'

/** What `backup_label` says of where recovery begins. */
export interface BackupLabel {
  start: Lsn
  /** The first segment that recovery needs. */
  walFile: string
  timeline: number
  fromStandby: boolean
  /** In an incremental backup: where the one below it began. */
  incrementalFrom?: { lsn: Lsn; timeline: number }
}

const INCREMENTAL_FROM = /^INCREMENTAL FROM (?:LSN|TLI): .*\n?/gm

/**
 * Reads a `backup_label`.
 * @throws Error when it has not the two facts that every version writes
 * @see build_backup_content in src/backend/access/transam/xlogbackup.c
 */
export function parseBackupLabel(text: string): BackupLabel {
  const start = /^START WAL LOCATION: ([0-9A-F]+\/[0-9A-F]+) \(file ([0-9A-F]{24})\)$/m.exec(text)
  const file = start && parseWalFile(start[2]!)
  if (!start || !file) throw new Error('the backup_label does not say where the backup begins')
  const fromLsn = /^INCREMENTAL FROM LSN: ([0-9A-F]+\/[0-9A-F]+)$/m.exec(text)
  const fromTimeline = /^INCREMENTAL FROM TLI: (\d+)$/m.exec(text)
  return {
    start: lsn(start[1]!),
    walFile: file.name,
    timeline: file.timeline,
    fromStandby: /^BACKUP FROM: standby$/m.test(text),
    ...(fromLsn &&
      fromTimeline && { incrementalFrom: { lsn: lsn(fromLsn[1]!), timeline: Number(fromTimeline[1]) } }),
  }
}

/**
 * The `backup_label` of an incremental backup. The server refuses to start from a directory that has these lines:
 * such a backup has to be combined with the ones below it first.
 * @param label of a backup of the server, as `pg_backup_stop` gives it
 * @param parent where the backup began whose files the unchanged blocks are in
 * @see build_backup_content in src/backend/access/transam/xlogbackup.c, which writes them last
 */
export function withIncrementalLines(label: string, parent: { start: Lsn; timeline: number }): string {
  const whole = withoutIncrementalLines(label)
  const ended = whole.endsWith('\n') ? whole : `${whole}\n`
  return `${ended}INCREMENTAL FROM LSN: ${formatLsn(parent.start)}\nINCREMENTAL FROM TLI: ${parent.timeline}\n`
}

/** The `backup_label` of what an incremental backup and those below it give together. */
export function withoutIncrementalLines(label: string): string {
  return label.replace(INCREMENTAL_FROM, '')
}

import { type Lsn, lsn } from './lsn.ts'
import { parseWalFile } from './wal-file.ts'

/** What `backup_label` says of where recovery begins. */
export interface BackupLabel {
  start: Lsn
  /** The first segment that recovery needs. */
  walFile: string
  timeline: number
  fromStandby: boolean
}

/**
 * Reads a `backup_label`.
 * @throws Error when it has not the two facts that every version writes
 * @see build_backup_content in src/backend/access/transam/xlogbackup.c
 */
export function parseBackupLabel(text: string): BackupLabel {
  const start = /^START WAL LOCATION: ([0-9A-F]+\/[0-9A-F]+) \(file ([0-9A-F]{24})\)$/m.exec(text)
  const file = start && parseWalFile(start[2]!)
  if (!start || !file) throw new Error('the backup_label does not say where the backup begins')
  return {
    start: lsn(start[1]!),
    walFile: file.name,
    timeline: file.timeline,
    fromStandby: /^BACKUP FROM: standby$/m.test(text),
  }
}

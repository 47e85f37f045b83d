import type { Damage } from './damage.ts'
import type { RestoreProof } from './restore-proof.ts'

/** What came of looking at one backup: it is sound where there are no faults. */
export interface VerifiedBackup {
  id: string
  /** Objects and bytes that were read, without WAL of the archive. */
  objects: number
  bytes: number
  /** With those of the WAL that makes it consistent. */
  faults: { key: string; reason: string }[]
  /** Of a logical backup: why `pg_restore` did not look at its archives. */
  unlisted?: string
  /** What came of loading it; what is not as it must be is among the faults. Not of one that has others. */
  restore?: RestoreProof
}

/** What came of looking at one repository. */
export interface VerifiedRepository {
  backups: VerifiedBackup[]
  /** Files of the archive that were read. */
  wal: { files: number; bytes: number; sizeOnly: number }
  damaged: Damage[]
  /** Objects that were to be decoded, and of which only the sum was compared: no key of this host reads them. */
  undecoded: number
  /** Stored bytes: read now, of how many, and how many were never read and found sound. Without the last two for named backups. */
  readBytes: number
  totalBytes?: number
  neverBytes?: number
  /** When what was read longest ago was read; ISO 8601. */
  oldestAt?: string
  /** A look at everything that was interrupted then, with which this one went on; ISO 8601. */
  resumedFrom?: string
}

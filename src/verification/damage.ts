import type { BackupObject, BackupRecord } from '../catalog/backup-record.ts'
import type { LogicalObject, LogicalRecord } from '../catalog/logical-record.ts'
import type { Consequence } from './consequence.ts'
import type { Place } from './places.ts'

/** How a damaged object can be, or was, mended. */
export interface Mend {
  /** `healable`: another copy was found; `healed`: it was written over the damaged one, and verified; `lost`: there is no other. */
  outcome: 'healable' | 'healed' | 'lost'
  /** The repository whose copy it is; absent where the object is made anew. */
  repository?: string
  /** What was found, or done. */
  text: string
}

/** An object that is not what it must be. */
export interface Damage {
  key: string
  reason: string
  consequence: Consequence
  mend: Mend
}

/** The same before it is known what it means. */
export interface FoundDamage {
  key: string
  reason: string
  place: Place
  /** Of an object of a backup, what its record has of it. */
  object?: BackupObject | LogicalObject | undefined
  /** Its bytes are those that were stored, so no copy is better. */
  isContent?: true | undefined
}

/** Records of either kind. */
export type AnyRecord = BackupRecord | LogicalRecord

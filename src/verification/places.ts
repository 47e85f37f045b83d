import type { BackupObject } from '../catalog/backup-record.ts'
import { backupsPrefix, identityKey, isBackupId, REPOSITORY_MARKER } from '../catalog/layout.ts'
import type { LogicalObject } from '../catalog/logical-record.ts'
import type { Span } from '../catalog/segment-spans.ts'
import { type WalObject, walObjectOf } from '../catalog/wal-object.ts'
import { segmentNumberOf } from '../catalog/wal-ranges.ts'

export type ObjectKind = (BackupObject | LogicalObject)['kind']

/** What an object is in its repository. */
export type Place =
  /** `pgrecall.json`, `cluster.json` */
  | { kind: 'marker' }
  | { kind: 'identity' }
  /** `backup.json` */
  | { kind: 'record'; backup: string }
  | { kind: 'object'; backup: string; name: string }
  /** A backup as a whole. */
  | { kind: 'backup'; backup: string }
  | { kind: 'wal'; file: WalObject }
  /** Segments one behind the other that are missing. */
  | ({ kind: 'missing'; timeline: number } & Span)

/** @returns undefined for what is no object of the cluster */
export function placeOf(cluster: string, key: string): Place | undefined {
  if (key === REPOSITORY_MARKER) return { kind: 'marker' }
  if (key === identityKey(cluster)) return { kind: 'identity' }
  const prefix = backupsPrefix(cluster)
  if (key.startsWith(prefix)) {
    const [backup = '', name = ''] = key.slice(prefix.length).split('/')
    if (!isBackupId(backup)) return undefined
    if (name === '') return { kind: 'backup', backup }
    return name === 'backup.json' ? { kind: 'record', backup } : { kind: 'object', backup, name }
  }
  const file = walObjectOf(cluster, key)
  return file && { kind: 'wal', file }
}

/** Which segment an object is, in either form; undefined for every other object. */
export function segmentAt(
  cluster: string,
  key: string,
  segmentBytes: number,
): { timeline: number; number: bigint } | undefined {
  const file = walObjectOf(cluster, key)
  if (file?.kind !== 'segment') return undefined
  return { timeline: file.timeline, number: segmentNumberOf(file.name, segmentBytes) }
}

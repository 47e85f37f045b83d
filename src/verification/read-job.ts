import type { BackupObject, StoredObject } from '../catalog/backup-record.ts'
import type { FileSetFacts } from '../reconstruction/file-set.ts'

/** What a thread reads at a time. Plain data. */
export type ReadJob = ObjectJob | ShardJob | WalJob

/** An object whose stored bytes are summed up, and, with `decode`, decrypted and decompressed. */
export interface ObjectJob {
  kind: 'object'
  key: string
  object: StoredObject
  decode: boolean
}

/** A shard that is taken apart: its stored bytes, its members, and what is in them. */
export interface ShardJob {
  kind: 'shard'
  key: string
  object: BackupObject
  /** Its index, which lists the members; undefined where the record has none. */
  index: { key: string; object: StoredObject } | undefined
  backup: {
    /** Positions as in the record. */
    startLsn: string
    stopLsn: string
    /** The segment in which its own WAL ends. */
    stopFile: string
    systemIdentifier: string
    /** Whether the cluster has checksums of pages. */
    hasChecksums: boolean
    /** Files, as the manifest calls them, with pages that are known to be wrong. */
    damaged: string[]
  }
}

/** Segments `first` to `last` of one timeline, by their numbers, all of which have to be there. */
export interface WalJob {
  kind: 'wal'
  cluster: string
  timeline: number
  first: bigint
  last: bigint
  segmentBytes: number
  /** Whether records are read, too; then those that go on behind `last` are read to their end where `goesOn`. */
  decode: boolean
  /** Whether the segment behind `last` is stored: then WAL must not end before it. */
  goesOn: boolean
  systemIdentifier: string | undefined
}

/** An object in which something is wrong. */
export interface Fault {
  key: string
  reason: string
  /** Its bytes are those that were stored, and are not what they must be: so they were from the beginning. */
  isContent?: true | undefined
}

/** What came of a job. */
export interface ReadResult {
  objects: number
  /** Stored bytes. */
  bytes: number
  faults: Fault[]
  /** WAL files that are encrypted for a key that this host has not: only that all of their bytes are there was seen. */
  sizeOnly: number
  /** Objects that were to be decoded, and of which only the sum was compared, for the same reason. */
  undecoded: number
  /** Of a shard that was taken apart: its files, but for WAL. */
  files?: FileSetFacts
}

export function nothingRead(): ReadResult {
  return { objects: 0, bytes: 0, faults: [], sizeOnly: 0, undecoded: 0 }
}

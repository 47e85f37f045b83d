import type { Lsn } from './lsn.ts'

/**
 * The names in `pg_wal`: pure arithmetic between names, segment numbers and LSNs.
 * @see https://www.postgresql.org/docs/current/continuous-archiving.html and XLogFileName in xlog_internal.h
 */
export type WalFile =
  /** A whole segment, `TTTTTTTTLLLLLLLLSSSSSSSS`. */
  | { kind: 'segment'; name: string; timeline: number; log: number; seg: number }
  /** The unfinished last segment of a timeline that ended by promotion. */
  | { kind: 'partial'; name: string; timeline: number; log: number; seg: number }
  /** A timeline's history. */
  | { kind: 'history'; name: string; timeline: number }
  /** The record that `pg_backup_stop` writes next to the segment in which a backup began. */
  | { kind: 'backup'; name: string; timeline: number; log: number; seg: number }

const NAME = /^([0-9A-F]{8})(?:([0-9A-F]{8})([0-9A-F]{8})(\.partial|\.[0-9A-F]{8}\.backup)?|\.history)$/

/** What a file name in `pg_wal` stands for, or undefined for any other name. */
export function parseWalFile(name: string): WalFile | undefined {
  const match = NAME.exec(name)
  if (!match) return undefined
  const timeline = Number.parseInt(match[1]!, 16)
  if (timeline === 0) return undefined
  if (match[2] === undefined) return { kind: 'history', name, timeline }
  const place = { name, timeline, log: Number.parseInt(match[2], 16), seg: Number.parseInt(match[3]!, 16) }
  if (match[4] === undefined) return { kind: 'segment', ...place }
  return { kind: match[4] === '.partial' ? 'partial' : 'backup', ...place }
}

const hex8 = (value: number | bigint) => value.toString(16).toUpperCase().padStart(8, '0')

/** Segments per 4 GiB of WAL: 256 at the default segment size of 16 MiB. */
const segmentsPerLog = (segmentBytes: number) => 0x100000000n / BigInt(segmentBytes)

/** The number of the segment that holds `position`, counted from the start of the WAL stream. */
export function segmentNumber(position: Lsn, segmentBytes: number): bigint {
  return position / BigInt(segmentBytes)
}

/**
 * The number of the last segment that is needed to replay up to `position`: a position exactly on a boundary
 * belongs to the segment before it, as in `pg_walfile_name` up to 16.
 */
export function lastSegmentNumber(position: Lsn, segmentBytes: number): bigint {
  return position === 0n ? 0n : (position - 1n) / BigInt(segmentBytes)
}

/** The number of a segment, partial or backup file from its name's parts. */
export function numberOf(file: { log: number; seg: number }, segmentBytes: number): bigint {
  // Fewer than 2^44: exact as ordinary numbers, which are many times faster.
  return BigInt(file.log * (2 ** 32 / segmentBytes) + file.seg)
}

/** The name of a segment. */
export function segmentName(timeline: number, number: bigint, segmentBytes: number): string {
  const perLog = segmentsPerLog(segmentBytes)
  return `${hex8(timeline)}${hex8(number / perLog)}${hex8(number % perLog)}`
}

/** The LSN of the first byte of a segment. */
export function segmentStart(number: bigint, segmentBytes: number): Lsn {
  return number * BigInt(segmentBytes)
}

/** `00000002.history` */
export function historyName(timeline: number): string {
  return `${hex8(timeline)}.history`
}

/** A timeline as it stands in file names: eight hexadecimal digits. */
export function timelineName(timeline: number): string {
  return hex8(timeline)
}

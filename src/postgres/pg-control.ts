import { crc32c } from './crc32c.ts'
import type { Lsn } from './lsn.ts'

/** What we need of `global/pg_control`. */
export interface ControlFile {
  /** The cluster's identity, a decimal number of 64 bits. */
  systemIdentifier: string
  controlVersion: number
  catalogVersion: number
  /** Whether the server was shut down in order, as a primary; a standby's shutdown is another state. */
  state: 'shut down' | 'shut down in recovery' | 'running'
  /** When the file was written, seconds since 1970. */
  time: number
  checkpoint: {
    lsn: Lsn
    /** Where recovery would begin; of a cluster that was shut down, the checkpoint itself. */
    redo: Lsn
    timeline: number
    /** 64 bits: the epoch in the upper half. */
    nextXid: bigint
  }
  blockBytes: number
  relationSegmentBlocks: number
  walSegmentBytes: number
  dataChecksums: boolean
}

/** FLOATFORMAT_VALUE, written so that a wrong byte order is noticed; block and segment sizes follow it. */
const FLOAT_FORMAT = 1234567.0
/** Version 10 still had the location of the checkpoint before the last. */
const CONTROL_VERSION_10 = 1002
/** From 12 the next transaction id is one number of 64 bits; before, epoch and id lie four bytes earlier. */
const CONTROL_VERSION_12 = 1201

const DB_SHUTDOWNED = 1
const DB_SHUTDOWNED_IN_RECOVERY = 2

/**
 * Reads `pg_control`. The structure differs between versions, so two landmarks are looked for: the float constant
 * in front of the sizes, and the CRC-32C that ends it and covers all before it.
 * @returns undefined when no CRC fits, as in a file that is being written at this moment
 * @see src/include/catalog/pg_control.h, ControlFileData and CheckPoint
 */
export function readControlFile(bytes: Buffer): ControlFile | undefined {
  const end = Math.min(bytes.length, 512)
  let sizesAt: number | undefined
  for (let at = 0; at + 32 <= end && sizesAt === undefined; at += 8) {
    if (bytes.readDoubleLE(at) === FLOAT_FORMAT) sizesAt = at + 8
  }
  if (sizesAt === undefined) return undefined
  for (let at = sizesAt + 16; at + 4 <= end; at += 4) {
    if (crc32c(bytes.subarray(0, at)) === bytes.readUInt32LE(at)) return decode(bytes, sizesAt)
  }
  return undefined
}

function decode(bytes: Buffer, sizesAt: number): ControlFile {
  const controlVersion = bytes.readUInt32LE(8)
  const copyAt = controlVersion <= CONTROL_VERSION_10 ? 48 : 40
  const state = bytes.readUInt32LE(16)
  return {
    systemIdentifier: bytes.readBigUInt64LE(0).toString(),
    controlVersion,
    catalogVersion: bytes.readUInt32LE(12),
    state:
      state === DB_SHUTDOWNED
        ? 'shut down'
        : state === DB_SHUTDOWNED_IN_RECOVERY
          ? 'shut down in recovery'
          : 'running',
    time: Number(bytes.readBigInt64LE(24)),
    checkpoint: {
      lsn: bytes.readBigUInt64LE(32),
      redo: bytes.readBigUInt64LE(copyAt),
      timeline: bytes.readUInt32LE(copyAt + 8),
      nextXid:
        controlVersion >= CONTROL_VERSION_12
          ? bytes.readBigUInt64LE(copyAt + 24)
          : (BigInt(bytes.readUInt32LE(copyAt + 20)) << 32n) | BigInt(bytes.readUInt32LE(copyAt + 24)),
    },
    blockBytes: bytes.readUInt32LE(sizesAt),
    relationSegmentBlocks: bytes.readUInt32LE(sizesAt + 4),
    walSegmentBytes: bytes.readUInt32LE(sizesAt + 12),
    // After eight numbers and the flags, which are padded to one more.
    dataChecksums: bytes.readUInt32LE(sizesAt + 36) !== 0,
  }
}

import { crc32c } from './crc32c.ts'

/** What we need of `global/pg_control`. */
export interface ControlFile {
  /** The cluster's identity, a decimal number of 64 bits. */
  systemIdentifier: string
  controlVersion: number
  catalogVersion: number
  walSegmentBytes: number
}

/** FLOATFORMAT_VALUE, written so that a wrong byte order is noticed; block and segment sizes follow it. */
const FLOAT_FORMAT = 1234567.0

/**
 * Reads `pg_control`. The structure differs between versions, so two landmarks are looked for: the float constant
 * in front of the sizes, and the CRC-32C that ends it and covers all before it.
 * @returns undefined when no CRC fits, as in a file that is being written at this moment
 * @see src/include/catalog/pg_control.h
 */
export function readControlFile(bytes: Buffer): ControlFile | undefined {
  const end = Math.min(bytes.length, 512)
  let sizesAt: number | undefined
  for (let at = 0; at + 32 <= end && sizesAt === undefined; at += 8) {
    if (bytes.readDoubleLE(at) === FLOAT_FORMAT) sizesAt = at + 8
  }
  if (sizesAt === undefined) return undefined
  for (let at = sizesAt + 16; at + 4 <= end; at += 4) {
    if (crc32c(bytes.subarray(0, at)) !== bytes.readUInt32LE(at)) continue
    return {
      systemIdentifier: bytes.readBigUInt64LE(0).toString(),
      controlVersion: bytes.readUInt32LE(8),
      catalogVersion: bytes.readUInt32LE(12),
      walSegmentBytes: bytes.readUInt32LE(sizesAt + 12),
    }
  }
  return undefined
}

/** The Castagnoli polynomial, bits reversed. */
const POLYNOMIAL = 0x82f63b78

/** Eight tables of 256, for eight bytes at a step ("slicing by 8"): four times as fast as byte by byte. */
const TABLES = makeTables()

/**
 * CRC-32C (Castagnoli), as PostgreSQL puts it on WAL records and on `pg_control`.
 * @param buffers bytes that are taken as one sequence, in this order
 * @returns an unsigned number of 32 bits
 * @see src/port/pg_crc32c_sb8.c
 */
export function crc32c(...buffers: Uint8Array[]): number {
  let crc = 0xffffffff
  for (const bytes of buffers) crc = extendCrc32c(crc, bytes, 0, bytes.length)
  return ~crc >>> 0
}

/**
 * One step of a CRC-32C that is made of ranges, where a view of each would cost more than the sum itself.
 * @param register what the step before gave back; all ones, `0xffffffff`, at the beginning
 * @param from the first byte
 * @param to the byte after the last one
 * @returns the register; its complement, `~register >>> 0`, is the CRC
 */
export function extendCrc32c(register: number, bytes: Uint8Array, from: number, to: number): number {
  const table = TABLES
  const lastStep = to - 8
  let crc = register
  let at = from
  for (; at <= lastStep; at += 8) {
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)
    crc =
      table[0x700 + (crc & 0xff)]! ^
      table[0x600 + ((crc >>> 8) & 0xff)]! ^
      table[0x500 + ((crc >>> 16) & 0xff)]! ^
      table[0x400 + (crc >>> 24)]! ^
      table[0x300 + bytes[at + 4]!]! ^
      table[0x200 + bytes[at + 5]!]! ^
      table[0x100 + bytes[at + 6]!]! ^
      table[bytes[at + 7]!]!
  }
  for (; at < to; at++) crc = table[(crc ^ bytes[at]!) & 0xff]! ^ (crc >>> 8)
  return crc
}

function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 256)
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1
    tables[byte] = crc
  }
  for (let at = 256; at < tables.length; at++) {
    const before = tables[at - 256]!
    tables[at] = tables[before & 0xff]! ^ (before >>> 8)
  }
  return tables
}

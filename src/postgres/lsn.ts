/**
 * A write-ahead log position: a byte offset in the WAL stream of a cluster, 64 bits.
 * Written as two hexadecimal halves, `16/B374D848`.
 * @see https://www.postgresql.org/docs/current/datatype-pg-lsn.html
 */
export type Lsn = bigint

/** Reads `X/Y`; undefined when the text is no LSN. */
export function parseLsn(text: string): Lsn | undefined {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text.trim())
  return match ? (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`) : undefined
}

/** Writes an LSN as PostgreSQL does, without leading zeros in either half. */
export function formatLsn(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16).toUpperCase()}/${(lsn & 0xffffffffn).toString(16).toUpperCase()}`
}

/** Reads an LSN that our own files or the server gave; throws a `TypeError` when it is none. */
export function lsn(text: string): Lsn {
  const value = parseLsn(text)
  if (value === undefined) throw new TypeError(`"${text}" is not an LSN`)
  return value
}

import { PgrecallError } from '../errors.ts'
import { formatLsn, type Lsn, parseLsn } from '../postgres/lsn.ts'
import type { RecoveryTarget } from '../postgres/recovery-settings.ts'

/** Where a restore is to end, as the operator asked for it. Times in microseconds since 1970. */
export type Target =
  | { kind: 'end' }
  | { kind: 'immediate' }
  | { kind: 'time'; micros: bigint }
  | { kind: 'lsn'; lsn: Lsn }
  | { kind: 'xid'; xid: bigint }
  | { kind: 'name'; name: string }

const TIME =
  /^(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6}))?)?)?\s*(Z|UTC|[+-]\d{2}(?::?\d{2})?)?$/i

/**
 * Reads a moment: `2026-11-20 17:29`, with seconds, fractions and a zone if wanted. Without a zone it is the local
 * time of this host.
 * @returns microseconds since 1970
 * @throws PgrecallError `usage`
 */
export function parseMoment(text: string): bigint {
  const match = TIME.exec(text.trim())
  const refuse = () =>
    new PgrecallError('usage', `"${text}" is not a point in time`, {
      hint: 'write it as 2026-11-20 17:29:00, and add a zone such as +01 if it is not the local time of this host',
    })
  if (!match) throw refuse()
  const [year, month, day, hour, minute, second] = match
    .slice(1, 7)
    .map((part) => Number(part ?? 0)) as number[]
  const zone = match[8]?.toUpperCase()
  const utc = Date.UTC(year!, month! - 1, day, hour, minute, second)
  const whole = new Date(utc)
  const isReal =
    whole.getUTCMonth() === month! - 1 &&
    whole.getUTCDate() === day &&
    hour! < 24 &&
    minute! < 60 &&
    second! < 60
  if (!isReal) throw refuse()
  const milliseconds =
    zone === undefined
      ? new Date(year!, month! - 1, day, hour, minute, second).getTime()
      : utc - offsetOf(zone)
  return BigInt(milliseconds) * 1000n + BigInt((match[7] ?? '').padEnd(6, '0') || '0')
}

function offsetOf(zone: string): number {
  const match = /^([+-])(\d{2}):?(\d{2})?$/.exec(zone)
  if (!match) return 0
  const minutes = Number(match[2]) * 60 + Number(match[3] ?? 0)
  return (match[1] === '-' ? -minutes : minutes) * 60_000
}

/** A moment with its microseconds, in UTC, as PostgreSQL reads it and people too. */
export function formatMoment(micros: bigint): string {
  const fraction = ((micros % 1_000_000n) + 1_000_000n) % 1_000_000n
  const seconds = new Date(Number((micros - fraction) / 1000n)).toISOString().slice(0, 19).replace('T', ' ')
  const digits = fraction === 0n ? '' : `.${String(fraction).padStart(6, '0').replace(/0+$/, '')}`
  return `${seconds}${digits}+00`
}

/** The server's own timestamps in a backup's record, in microseconds since 1970. */
export function momentOf(iso: string): bigint {
  return parseMoment(iso)
}

/** Reads `--lsn`. @throws PgrecallError `usage` */
export function parseTargetLsn(text: string): Lsn {
  const value = parseLsn(text)
  if (value !== undefined) return value
  throw new PgrecallError('usage', `"${text}" is not an LSN`, { hint: 'write it as 16/B374D848' })
}

/** Reads `--xid`. @throws PgrecallError `usage` */
export function parseTargetXid(text: string): bigint {
  if (/^\d{1,20}$/.test(text)) return BigInt(text)
  throw new PgrecallError('usage', `"${text}" is not a transaction id`, {
    hint: 'a transaction id is a whole number, as in the column xmin or from pg_current_xact_id()',
  })
}

/** The target as the server's settings have it. */
export function recoveryTargetOf(target: Target): RecoveryTarget {
  switch (target.kind) {
    case 'time':
      return { kind: 'time', time: formatMoment(target.micros) }
    case 'lsn':
      return { kind: 'lsn', lsn: formatLsn(target.lsn) }
    case 'xid':
      // The setting has 32 bits; a 64-bit id as pg_current_xact_id() gives it carries the epoch above them.
      return { kind: 'xid', xid: String(target.xid & 0xffffffffn) }
    default:
      return target
  }
}

/** The target in a sentence: "to the end of the archived WAL", "to 2026-11-20 17:29:00+00". */
export function describeTarget(target: Target): string {
  switch (target.kind) {
    case 'end':
      return 'the end of the archived WAL'
    case 'immediate':
      return 'the end of the backup'
    case 'time':
      return formatMoment(target.micros)
    case 'lsn':
      return `LSN ${formatLsn(target.lsn)}`
    case 'xid':
      return `the end of transaction ${target.xid}`
    case 'name':
      return `restore point "${target.name}"`
  }
}

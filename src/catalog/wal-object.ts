import { parseWalFile, type WalFile } from '../postgres/wal-file.ts'
import { droppedKey, receivingKey, walKey, walNameOf } from './layout.ts'

/** What an object below `wal/` is: a file of `pg_wal`, or what pgrecall keeps beside one. */
export type WalObject =
  | WalFile
  /** A segment as far as it was received. */
  | { kind: 'receiving'; name: string; timeline: number; log: number; seg: number }
  /** The note that a segment, or another file of its name, was given up. */
  | { kind: 'dropped'; name: string; timeline: number; log: number; seg: number }

const BESIDE = /^(.+)\.(?:(receiving)\.zst|dropped\.json)$/

/** @returns undefined for what is no WAL, and for WAL that lies where nobody looks for it */
export function walObjectOf(cluster: string, key: string): WalObject | undefined {
  const name = walNameOf(key)
  const file = name === undefined ? undefined : parseWalFile(name)
  if (file) return walKey(cluster, file.name) === key ? file : undefined
  const [, of = '', isReceiving] = BESIDE.exec(key.slice(key.lastIndexOf('/') + 1)) ?? []
  const beside = parseWalFile(of)
  if (!beside || beside.kind === 'history') return undefined
  const expected = isReceiving ? receivingKey(cluster, of) : droppedKey(cluster, of)
  return expected === key ? { ...beside, kind: isReceiving ? 'receiving' : 'dropped' } : undefined
}

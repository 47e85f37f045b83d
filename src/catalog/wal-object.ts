import { parseWalFile, type WalFile } from '../postgres/wal-file.ts'
import type { ObjectFacts } from '../storage/storage.ts'
import { droppedKey, receivingKey, type WalForm, walKey, walNameOf } from './layout.ts'
import type { Repository } from './repository.ts'

/** What an object below `wal/` is: a file of `pg_wal`, encrypted or not, or what pgrecall keeps beside one. */
export type WalObject =
  | WalFile
  /** A segment as far as it was received. */
  | { kind: 'receiving'; name: string; timeline: number; log: number; seg: number }
  /** The note that a segment, or another file of its name, was given up. */
  | { kind: 'dropped'; name: string; timeline: number; log: number; seg: number }

const BESIDE = /^(.+)\.(?:(receiving)\.zst(?:\.age)?|dropped\.json)$/
const FORMS: readonly WalForm[] = ['plain', 'sealed']

/** @returns undefined for what is no WAL, and for WAL that lies where nobody looks for it */
export function walObjectOf(cluster: string, key: string): WalObject | undefined {
  const isAt = (place: (form: WalForm) => string) => FORMS.some((form) => place(form) === key)
  const name = walNameOf(key)
  const file = name === undefined ? undefined : parseWalFile(name)
  if (file) return isAt((form) => walKey(cluster, file.name, form)) ? file : undefined
  const [, of = '', isReceiving] = BESIDE.exec(key.slice(key.lastIndexOf('/') + 1)) ?? []
  const beside = parseWalFile(of)
  if (!beside || beside.kind === 'history') return undefined
  if (isReceiving && isAt((form) => receivingKey(cluster, of, form))) return { ...beside, kind: 'receiving' }
  return droppedKey(cluster, of) === key ? { ...beside, kind: 'dropped' } : undefined
}

/**
 * The forms in which a WAL file may be stored: first the one that the repository is configured for, then the one of what
 * was stored before that, or by a host that is configured otherwise.
 */
export function walForms({ keys }: Pick<Repository, 'keys'>): readonly [WalForm, WalForm] {
  return keys.sealer ? ['sealed', 'plain'] : ['plain', 'sealed']
}

/** Whether a WAL file is archived, in whichever form; the object's facts, or undefined. */
export async function statWalFile(
  repository: Pick<Repository, 'keys' | 'storage'>,
  cluster: string,
  name: string,
): Promise<ObjectFacts | undefined> {
  const [first, second] = walForms(repository)
  const stat = (form: WalForm) => repository.storage.stat(walKey(cluster, name, form))
  return (await stat(first)) ?? (await stat(second))
}

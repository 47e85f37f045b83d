import { createHash, randomBytes } from 'node:crypto'
import { readSealHeader, SEAL_HEADER_READ_BYTES, type SealNote } from '../archive/age.ts'
import type { WalForm } from '../catalog/layout.ts'
import { readObject, type Storage } from '../storage/storage.ts'
import { HEAD_READ_BYTES, readWalHead } from './stored-file.ts'

/** What a stored WAL file tells of its bytes, to whoever has no key too. */
export interface StoredSum {
  /** Empty where the object is not encrypted. */
  salt: Buffer
  /** SHA-256 of the salt and the plain bytes behind it, hexadecimal. */
  digest: string
  /** What the object has when all of it is there; undefined where only reading it tells. */
  objectBytes: number | undefined
}

const NOTE = 'wal'
const SALT_BYTES = 16
/** @see https://github.com/C2SP/C2SP/blob/main/age.md#payload */
const CHUNK_BYTES = 64 * 1024
const NONCE_BYTES = 16
const TAG_BYTES = 16

/**
 * The note in the header of an encrypted WAL file, `wal <salt> <digest> <plain bytes> <content bytes>`: a host with public
 * keys can tell by it whether its own segment is the one that is stored. The salt is another one for each object, so that
 * nobody can look segments up in a table, or find out which ones are alike.
 * @param contentBytes of what is encrypted: the compressed file
 */
export function sumNote(plain: Buffer, contentBytes: number): SealNote {
  const salt = randomBytes(SALT_BYTES)
  const args = [salt.toString('hex'), sumOf(plain, salt), String(plain.length), String(contentBytes)]
  return { name: NOTE, args }
}

export function sumOf(plain: Buffer, salt: Buffer): string {
  return createHash('sha256').update(salt).update(plain).digest('hex')
}

/** Reads the beginning of an object. @returns undefined where it is not there, or is not what pgrecall wrote */
export async function readStoredSum(
  storage: Storage,
  key: string,
  form: WalForm,
  signal?: AbortSignal,
): Promise<StoredSum | undefined> {
  const length = form === 'sealed' ? SEAL_HEADER_READ_BYTES : HEAD_READ_BYTES
  const start = await readObject(storage, key, { range: { offset: 0, length }, ...(signal && { signal }) })
  if (!start) return undefined
  if (form === 'sealed') return sealedSum(start)
  const head = readWalHead(start)
  return head && { salt: Buffer.alloc(0), digest: head.sha256, objectBytes: undefined }
}

function sealedSum(start: Buffer): StoredSum | undefined {
  const header = readSealHeader(start)
  const args = header?.notes.find(({ name }) => name === NOTE)?.args
  const [, salt, digest, content] =
    /^([0-9a-f]{32}) ([0-9a-f]{64}) \d{1,12} (\d{1,12})$/.exec(args?.join(' ') ?? '') ?? []
  if (!header || salt === undefined || digest === undefined) return undefined
  const objectBytes = header.headerBytes + payloadBytes(Number(content))
  return { salt: Buffer.from(salt, 'hex'), digest, objectBytes }
}

/** What stands behind an age header: a nonce, and chunks with a tag each, at least one. */
function payloadBytes(content: number): number {
  return NONCE_BYTES + content + TAG_BYTES * Math.max(1, Math.ceil(content / CHUNK_BYTES))
}

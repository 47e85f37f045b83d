import { readSealHeader, SEAL_SUFFIX } from '../archive/age.ts'
import { PgrecallError } from '../errors.ts'
import { type GetOptions, readObject } from '../storage/storage.ts'
import type { Repository } from './repository.ts'

/** A repository as far as reading goes. */
export type ReadableRepository = Pick<Repository, 'storage'> & { keys: Pick<Repository['keys'], 'opener'> }

/** Whether an object is encrypted, by its name. */
export const isSealed = (key: string) => key.endsWith(SEAL_SUFFIX)

/**
 * The content of an object as it comes: decrypted where it is encrypted.
 * @param options `onStored` hears of every stored chunk before it is decrypted
 * @returns undefined where there is no such object
 * @throws PgrecallError `key` where no key fits; while it is read, `damaged` where it is not what was encrypted
 */
export async function readContent(
  { storage, keys }: ReadableRepository,
  key: string,
  { onStored, ...options }: Pick<GetOptions, 'signal'> & { onStored?: (chunk: Buffer) => void } = {},
): Promise<AsyncIterable<Buffer> | undefined> {
  const chunks = await storage.get(key, options)
  const stored = chunks && onStored ? observed(chunks, onStored) : chunks
  return stored && isSealed(key) ? named(`${storage.location}/${key}`, keys.opener.open(stored)) : stored
}

async function* named(object: string, content: AsyncIterable<Buffer>) {
  try {
    yield* content
  } catch (error) {
    throw withName(object, error)
  }
}

/** Who decrypts does not know what. */
function withName(object: string, error: unknown): unknown {
  if (!(error instanceof PgrecallError) || error.kind !== 'damaged') return error
  return new PgrecallError('damaged', `${object} is damaged: ${error.message}`, {
    hint: 'use another repository, or another backup, where there is one',
    cause: error,
  })
}

async function* observed(chunks: AsyncIterable<Buffer>, onChunk: (chunk: Buffer) => void) {
  for await (const chunk of chunks) {
    onChunk(chunk)
    yield chunk
  }
}

/** The same for a small object, in memory. @param options as those of `readObject`; the limit is of the stored bytes */
export async function readWholeContent(
  { storage, keys }: ReadableRepository,
  key: string,
  options: { limit?: number; signal?: AbortSignal } = {},
): Promise<Buffer | undefined> {
  const object = await readObject(storage, key, options)
  if (!object || !isSealed(key)) return object
  return keys.opener.openWhole(object).catch((error) => {
    throw withName(`${storage.location}/${key}`, error)
  })
}

/**
 * Whether an object is what a repository would hold if it were written now: plain, or encrypted for just its public keys.
 * @param start the object's first bytes, at least its age header
 */
export function hasFormOf({ keys: { sealer } }: Repository, key: string, start: Buffer | undefined): boolean {
  if (!isSealed(key)) return sealer === undefined
  const header = start && readSealHeader(start)
  return sealer !== undefined && header !== undefined && sealer.hasSealed(header)
}

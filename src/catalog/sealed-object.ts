import {
  contentBytesOf,
  readSealHeader,
  SEAL_HEADER_READ_BYTES,
  SEAL_SUFFIX,
  type SealedParts,
} from '../archive/age.ts'
import { PgrecallError } from '../errors.ts'
import { type GetOptions, readObject } from '../storage/storage.ts'
import type { StoredObject } from './backup-record.ts'
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

/** The content of an object of which parts are read. */
export class PartedContent {
  readonly #repository: ReadableRepository
  readonly #key: string
  readonly #object: Omit<StoredObject, 'name'>
  #sealed: Promise<{ parts: SealedParts; storedBytes: number }> | undefined

  /** @param object as the record has it; a rotation of keys may have given it another header since */
  constructor(repository: ReadableRepository, key: string, object: Omit<StoredObject, 'name'>) {
    this.#repository = repository
    this.#key = key
    this.#object = object
  }

  /** Bytes of the content. */
  get bytes(): number {
    const { bytes, header } = this.#object
    return isSealed(this.#key) ? contentBytesOf(bytes - (header?.bytes ?? 0)) : bytes
  }

  /**
   * @param part not empty, and inside of the content
   * @returns pieces, each valid until the next one is asked for
   * @throws PgrecallError `damaged` where it is missing or not what was encrypted, `key` where no key fits
   */
  async read(part: { offset: number; length: number }, signal?: AbortSignal): Promise<AsyncIterable<Buffer>> {
    const stored = (range: { offset: number; length: number }) => this.#stored(range, signal)
    if (!isSealed(this.#key)) return stored(part)
    this.#sealed ??= this.#open()
    const { parts, storedBytes } = await this.#sealed
    return named(this.#name, parts.open(part, storedBytes, stored))
  }

  get #name(): string {
    return `${this.#repository.storage.location}/${this.#key}`
  }

  async #stored(
    range: { offset: number; length: number },
    signal?: AbortSignal,
  ): Promise<AsyncIterable<Buffer>> {
    const chunks = await this.#repository.storage.get(this.#key, { range, ...(signal && { signal }) })
    if (chunks) return chunks
    throw new PgrecallError('damaged', `${this.#name} is missing`, {
      hint: 'use another repository, or another backup, where there is one',
    })
  }

  async #open(): Promise<{ parts: SealedParts; storedBytes: number }> {
    const start = await gathered(await this.#stored({ offset: 0, length: SEAL_HEADER_READ_BYTES }))
    try {
      const parts = await this.#repository.keys.opener.openParts(start)
      const { bytes, header } = this.#object
      return { parts, storedBytes: bytes - (header?.bytes ?? 0) + readSealHeader(start)!.headerBytes }
    } catch (error) {
      throw withName(this.#name, error)
    }
  }
}

async function gathered(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const copies: Buffer[] = []
  for await (const chunk of chunks) copies.push(Buffer.from(chunk))
  return Buffer.concat(copies)
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

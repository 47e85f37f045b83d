import { createHash, randomBytes } from 'node:crypto'
import { PgrecallError, reasonOf } from '../errors.ts'
import {
  canBeSealed,
  readSealHeader,
  SEAL_HEADER_READ_BYTES,
  type SealHeader,
  type SealNote,
} from './age-header.ts'
import type { FileKeyReader } from './age-keys.ts'
import {
  chunksOf,
  cutOff,
  decryptWholePayload,
  encryptPayload,
  encryptWholePayload,
  PAYLOAD_NONCE_BYTES,
  PayloadReader,
  plainBytesOf,
} from './age-payload.ts'

export { readSealHeader, SEAL_HEADER_READ_BYTES, type SealHeader, type SealNote } from './age-header.ts'

/** The ending of an encrypted object's name. */
export const SEAL_SUFFIX = '.age'

const FILE_KEY_BYTES = 16
/** The note in every header that tells for which recipients it was made. */
const RECIPIENTS_NOTE = 'recipients'

/** One object's encryption: its header, and what encrypts its content. The two together are a file of age. */
export interface Seal {
  /** All of the age header, up to and with the line of its MAC. */
  readonly header: Buffer
  /**
   * What stands behind the header, piece by piece.
   * @param plain each piece is used up before the next one is asked for
   * @returns pieces of about a mebibyte; each is valid until the next one is asked for
   */
  encrypt(plain: AsyncIterable<Buffer> | Iterable<Buffer>): AsyncGenerator<Buffer>
  /** The same for content that is in memory. */
  encryptWhole(plain: readonly Buffer[]): Buffer
}

/**
 * Encrypts to public keys, as the `age` command does.
 * @see https://age-encryption.org/v1
 */
export class Sealer {
  readonly recipients: readonly string[]
  /** The same for the same recipients, in whatever order: 16 hexadecimal digits. Tells no more than the public keys do. */
  readonly fingerprint: string

  /** @param recipients `age1...`; each of them alone can read what is sealed */
  constructor(recipients: readonly string[]) {
    this.recipients = recipients
    const sorted = [...new Set(recipients)].sort().join('\n')
    this.fingerprint = createHash('sha256').update(sorted).digest('hex').slice(0, 16)
  }

  /** Whether a header is for just these recipients; by its own word, which needs no key. */
  hasSealed({ notes }: SealHeader): boolean {
    return notes.some(({ name, args }) => name === RECIPIENTS_NOTE && args.join(' ') === this.fingerprint)
  }

  /**
   * Draws the key of an object.
   * @param notes words of printable ASCII, without spaces; everybody can read them
   * @throws PgrecallError `config` naming the recipient that is no public key
   */
  async seal(notes: readonly SealNote[] = []): Promise<Seal> {
    const fileKey = randomBytes(FILE_KEY_BYTES)
    return {
      header: await this.headerFor(fileKey, notes),
      encrypt: (plain) => encryptPayload(fileKey, plain),
      encryptWhole: (plain) => encryptWholePayload(fileKey, plain),
    }
  }

  /** The header that gives the key of an object to the recipients. @throws as `seal` does */
  async headerFor(fileKey: Buffer, notes: readonly SealNote[]): Promise<Buffer> {
    const { makeSealHeader } = await import('./age-keys.ts')
    const others = notes.filter(({ name }) => name !== RECIPIENTS_NOTE)
    const own = { name: RECIPIENTS_NOTE, args: [this.fingerprint] }
    return makeSealHeader(fileKey, this.recipients, [...others, own])
  }
}

/** Decrypts with secret keys, which are loaded once, when they are needed for the first time. */
export class Opener {
  readonly #load: () => Promise<readonly string[]>
  #identities: Promise<readonly string[]> | undefined
  #reader: Promise<FileKeyReader> | undefined

  /** @param load gives the identities, AGE-SECRET-KEY-1...; throws PgrecallError `key` where there are none */
  constructor(load: () => Promise<readonly string[]>) {
    this.#load = load
  }

  /** The identities, for a worker's own opener. @throws what `load` throws */
  identities(): Promise<readonly string[]> {
    this.#identities ??= this.#load()
    return this.#identities
  }

  /** Another opener that also has these, and that has these alone where this one has none. */
  with(identities: readonly string[]): Opener {
    return new Opener(async () => {
      const own = await this.identities().catch((error) => {
        if (error instanceof PgrecallError && error.kind === 'key') return []
        throw error
      })
      return [...identities, ...own]
    })
  }

  /**
   * Decrypts a stored object as it arrives, in pieces of any size, with bounded memory.
   * @returns plain bytes whose tags were checked; a piece is valid until the next one is asked for. Only when all have
   * been read without an error was the object whole.
   * @throws PgrecallError `key` when no secret key fits, `damaged` when the bytes are not what was written
   */
  async *open(stored: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    let start = Buffer.alloc(0)
    let payload: PayloadReader | undefined
    for await (const piece of stored) {
      if (payload) yield* payload.push(piece)
      else {
        start = Buffer.concat([start, piece])
        const payloadAt = payloadStart(start)
        if (payloadAt === undefined) continue
        const fileKey = await this.#fileKey(start)
        payload = new PayloadReader(fileKey, start.subarray(payloadAt - PAYLOAD_NONCE_BYTES, payloadAt))
        yield* payload.push(start.subarray(payloadAt))
        start = Buffer.alloc(0)
      }
    }
    if (!payload) throw readSealHeader(start) ? cutOff() : notSealed()
    const last = payload.finish()
    if (last.length > 0) yield last
  }

  /**
   * Takes the key out of an object, so that parts of it can be decrypted.
   * @param start the object's first bytes, SEAL_HEADER_READ_BYTES of them or all
   * @throws as `open` does
   */
  async openParts(start: Buffer): Promise<SealedParts> {
    const payloadAt = payloadStart(start)
    if (payloadAt === undefined) throw readSealHeader(start) ? cutOff() : notSealed()
    const nonce = Buffer.from(start.subarray(payloadAt - PAYLOAD_NONCE_BYTES, payloadAt))
    return new SealedParts(await this.#fileKey(start), nonce, payloadAt)
  }

  /** Decrypts an object that is in memory. @throws as `open` does */
  async openWhole(object: Buffer): Promise<Buffer> {
    const payloadAt = payloadStart(object)
    if (payloadAt === undefined) throw readSealHeader(object) ? cutOff() : notSealed()
    return decryptWholePayload(await this.#fileKey(object), object.subarray(payloadAt - PAYLOAD_NONCE_BYTES))
  }

  /**
   * The header for the same content, for other recipients; its notes stay, but the one that tells the recipients. Who has
   * kept the old header and its secret key can still read the content: this takes the key from those who come later.
   * @throws as `open` does, and PgrecallError `config` as `Sealer.seal` does
   */
  async rewrap(header: Buffer, sealer: Sealer): Promise<Buffer> {
    return sealer.headerFor(await this.#fileKey(header), readSealHeader(header)!.notes)
  }

  /** @param object at least its header */
  async #fileKey(object: Buffer): Promise<Buffer> {
    const header = readSealHeader(object)
    if (!header) throw notSealed()
    this.#reader ??= this.#makeReader()
    const reader = await this.#reader
    const fileKey = await reader(object.subarray(0, header.headerBytes)).catch((error) => {
      throw new PgrecallError('damaged', `the header of an encrypted object is damaged: ${reasonOf(error)}`, {
        cause: error,
      })
    })
    if (fileKey) return fileKey
    const keys = header.recipients === 1 ? 'one public key' : `${header.recipients} public keys`
    throw new PgrecallError('key', `an object is encrypted to ${keys}, and no secret key of this host fits`, {
      hint: "name the file with the right secret key as identityFile of the repository's encryption",
    })
  }

  async #makeReader(): Promise<FileKeyReader> {
    const identities = await this.identities()
    if (identities.length === 0) {
      throw new PgrecallError('key', 'an object is encrypted, and this host has no secret key', {
        hint: "name the file with the secret key as identityFile of the repository's encryption",
      })
    }
    const { fileKeyReader } = await import('./age-keys.ts')
    return fileKeyReader(identities)
  }
}

/** An encrypted object whose key is known. */
export class SealedParts {
  readonly #fileKey: Buffer
  readonly #nonce: Buffer
  readonly #payloadAt: number

  constructor(fileKey: Buffer, nonce: Buffer, payloadAt: number) {
    this.#fileKey = fileKey
    this.#nonce = nonce
    this.#payloadAt = payloadAt
  }

  /**
   * Decrypts a part of the content.
   * @param part not empty, and inside of the content
   * @param storedBytes all of the object, by which its last chunk is known
   * @param read gives stored bytes of the object
   * @returns pieces, each valid until the next one is asked for
   * @throws PgrecallError `damaged`
   */
  async *open(
    part: { offset: number; length: number },
    storedBytes: number,
    read: (range: { offset: number; length: number }) => Promise<AsyncIterable<Buffer>>,
  ): AsyncGenerator<Buffer> {
    const plainBytes = plainBytesOf(storedBytes - this.#payloadAt + PAYLOAD_NONCE_BYTES)
    const { firstChunk, offset, length, before, isEnd } = chunksOf(part, plainBytes)
    const reader = new PayloadReader(this.#fileKey, this.#nonce, firstChunk)
    let skip = before
    let left = part.length
    const wanted = (plain: Buffer) => {
      const bytes = plain.subarray(skip, skip + left)
      skip -= Math.min(skip, plain.length)
      left -= bytes.length
      return bytes
    }
    for await (const piece of await read({ offset: this.#payloadAt + offset, length })) {
      for (const plain of reader.push(piece)) yield wanted(plain)
    }
    yield wanted(reader.finish(isEnd))
  }
}

/** The bytes of the content of an encrypted object. @param payloadBytes of the object without its header */
export const contentBytesOf = plainBytesOf

/**
 * Where the chunks begin, once the header and the nonce are there.
 * @throws PgrecallError `damaged` as soon as it shows that there is no header
 */
function payloadStart(start: Buffer): number | undefined {
  const header = readSealHeader(start)
  if (header) {
    const at = header.headerBytes + PAYLOAD_NONCE_BYTES
    return start.length < at ? undefined : at
  }
  if (start.length >= SEAL_HEADER_READ_BYTES || !canBeSealed(start)) throw notSealed()
  return undefined
}

const notSealed = () =>
  new PgrecallError(
    'damaged',
    'what should be an encrypted object is none: it does not begin with a header of age',
  )

/**
 * A new secret key and its public key.
 * @param kind `postQuantum` also withstands quantum computers; its public key has 2,000 letters, and programs of age
 * before 1.3 do not know it
 */
export async function newIdentity(
  kind: { postQuantum?: boolean } = {},
): Promise<{ identity: string; recipient: string }> {
  const { drawIdentity } = await import('./age-keys.ts')
  return drawIdentity(kind.postQuantum ?? false)
}

import {
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  randomBytes,
} from 'node:crypto'
import { PgrecallError } from '../errors.ts'

/**
 * What stands behind the header of an age file: a nonce, and chunks of 64 KiB, each encrypted with ChaCha20-Poly1305
 * under a key of this file. Node's own cipher does it, at a rate that the pure JavaScript of the package does not reach.
 * @see https://c2sp.org/age#payload
 */
const CHUNK_BYTES = 64 * 1024
const TAG_BYTES = 16
const SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES
export const PAYLOAD_NONCE_BYTES = 16
/** What is handed out at once: about a mebibyte. */
const PIECE_BYTES = PAYLOAD_NONCE_BYTES + 16 * SEALED_CHUNK_BYTES

/**
 * Encrypts a stream. Every call draws a new nonce, so that one file key may be used for several contents.
 * @param plain each piece is used up before the next one is asked for
 * @returns pieces of about a mebibyte; each is valid until the next one is asked for
 */
export async function* encryptPayload(
  fileKey: Buffer,
  plain: AsyncIterable<Buffer> | Iterable<Buffer>,
): AsyncGenerator<Buffer> {
  const nonce = randomBytes(PAYLOAD_NONCE_BYTES)
  const chain = new ChunkChain(fileKey, nonce)
  const chunks = new HeldChunks(CHUNK_BYTES)
  const out = Buffer.allocUnsafeSlow(PIECE_BYTES)
  let used = nonce.copy(out)
  for await (const piece of plain) {
    for (const chunk of chunks.take(piece)) {
      used += chain.seal(chunk, false, out, used)
      if (used + SEALED_CHUNK_BYTES <= out.length) continue
      yield out.subarray(0, used)
      used = 0
    }
  }
  used += chain.seal(chunks.rest, true, out, used)
  yield out.subarray(0, used)
}

/** The same for content that is in memory, into one buffer of just the size. */
export function encryptWholePayload(fileKey: Buffer, plain: readonly Buffer[]): Buffer {
  const nonce = randomBytes(PAYLOAD_NONCE_BYTES)
  const chain = new ChunkChain(fileKey, nonce)
  const chunks = new HeldChunks(CHUNK_BYTES)
  const plainBytes = plain.reduce((sum, { length }) => sum + length, 0)
  const tags = Math.max(1, Math.ceil(plainBytes / CHUNK_BYTES))
  const out = Buffer.allocUnsafeSlow(PAYLOAD_NONCE_BYTES + plainBytes + tags * TAG_BYTES)
  let used = nonce.copy(out)
  for (const piece of plain) {
    for (const chunk of chunks.take(piece)) used += chain.seal(chunk, false, out, used)
  }
  chain.seal(chunks.rest, true, out, used)
  return out
}

/** Decrypts the chunks of one payload as they arrive. */
export class PayloadReader {
  readonly #chain: ChunkChain
  readonly #chunks = new HeldChunks(SEALED_CHUNK_BYTES)

  /**
   * @param nonce the first bytes of the payload
   * @param firstChunk the number of the chunk that is pushed first
   */
  constructor(fileKey: Buffer, nonce: Buffer, firstChunk = 0) {
    this.#chain = new ChunkChain(fileKey, nonce, firstChunk)
  }

  /**
   * Takes more of what stands behind the nonce, in pieces of any size.
   * @returns plain bytes whose tags were checked; a piece is valid until the next one is asked for
   * @throws PgrecallError `damaged`
   */
  *push(sealed: Buffer): Generator<Buffer> {
    for (const chunk of this.#chunks.take(sealed)) {
      const plain = this.#chain.open(chunk, false)
      yield plain
      releaseChunk(plain)
    }
  }

  /**
   * The last plain bytes.
   * @param isEnd false where only a part of the payload was to be pushed, which ends with a whole chunk
   * @throws PgrecallError `damaged`, also when what was pushed is not all
   */
  finish(isEnd = true): Buffer {
    return this.#chain.open(this.#chunks.rest, isEnd)
  }
}

/** Where a part of the plain bytes lies among the chunks. */
export interface ChunkRange {
  firstChunk: number
  /** The stored bytes of the chunks, behind the nonce. */
  offset: number
  length: number
  /** Plain bytes of the first chunk that lie before the part. */
  before: number
  /** Whether the last chunk of all is among them. */
  isEnd: boolean
}

/** @param part not empty, and inside @param plainBytes all that there are */
export function chunksOf(part: { offset: number; length: number }, plainBytes: number): ChunkRange {
  const firstChunk = Math.floor(part.offset / CHUNK_BYTES)
  const lastChunk = Math.floor((part.offset + part.length - 1) / CHUNK_BYTES)
  const isEnd = (lastChunk + 1) * CHUNK_BYTES >= plainBytes
  const plainEnd = isEnd ? plainBytes : (lastChunk + 1) * CHUNK_BYTES
  const chunks = lastChunk - firstChunk + 1
  return {
    firstChunk,
    offset: firstChunk * SEALED_CHUNK_BYTES,
    length: plainEnd - firstChunk * CHUNK_BYTES + chunks * TAG_BYTES,
    before: part.offset - firstChunk * CHUNK_BYTES,
    isEnd,
  }
}

/** How many plain bytes there are in a payload of so many bytes, its nonce included. */
export function plainBytesOf(payloadBytes: number): number {
  const sealed = Math.max(0, payloadBytes - PAYLOAD_NONCE_BYTES)
  return Math.max(0, sealed - Math.ceil(sealed / SEALED_CHUNK_BYTES) * TAG_BYTES)
}

/** Decrypts a payload that is in memory. @throws PgrecallError `damaged` */
export function decryptWholePayload(fileKey: Buffer, payload: Buffer): Buffer {
  const reader = new PayloadReader(fileKey, payload.subarray(0, PAYLOAD_NONCE_BYTES))
  const sealed = payload.subarray(PAYLOAD_NONCE_BYTES)
  const tags = Math.ceil(sealed.length / SEALED_CHUNK_BYTES)
  const out = Buffer.allocUnsafeSlow(Math.max(0, sealed.length - tags * TAG_BYTES))
  let used = 0
  for (const plain of reader.push(sealed)) used += plain.copy(out, used)
  reader.finish().copy(out, used)
  return out
}

/** What an object that ends too early is called, wherever that shows. */
export const cutOff = () => new PgrecallError('damaged', 'an encrypted object is cut off: its end is missing')

/** Cuts pieces of any size into chunks. Which chunk is the last one shows only when no more comes, so one is held back. */
class HeldChunks {
  readonly #chunkBytes: number
  readonly #held: Buffer
  #used = 0

  constructor(chunkBytes: number) {
    this.#chunkBytes = chunkBytes
    this.#held = Buffer.allocUnsafeSlow(chunkBytes)
  }

  /** The chunks that are surely not the last, which lie in the piece itself where they can. */
  *take(piece: Buffer): Generator<Buffer> {
    let at = 0
    if (this.#used > 0) {
      at = piece.copy(this.#held, this.#used)
      this.#used += at
      if (at === piece.length) return
      yield this.#held
    }
    for (; piece.length - at > this.#chunkBytes; at += this.#chunkBytes) {
      yield piece.subarray(at, at + this.#chunkBytes)
    }
    this.#used = piece.copy(this.#held, 0, at)
  }

  /** The last chunk. */
  get rest(): Buffer {
    return this.#held.subarray(0, this.#used)
  }
}

/** The chunks of one payload, one after the other: their number is the nonce, and tells the last one from the others. */
class ChunkChain {
  readonly #key: KeyObject
  #count: number

  constructor(fileKey: Buffer, nonce: Buffer, firstChunk = 0) {
    this.#count = firstChunk
    // As a KeyObject: with plain bytes the ciphers would take half as long again.
    this.#key = createSecretKey(new Uint8Array(hkdfSync('sha256', fileKey, nonce, 'payload', 32)))
  }

  /** @returns how many bytes were written */
  seal(plain: Buffer, isLast: boolean, into: Buffer, at: number): number {
    const cipher = createCipheriv('chacha20-poly1305', this.#key, nonceOf(this.#count++, isLast), {
      authTagLength: TAG_BYTES,
    })
    const sealed = cipher.update(plain)
    sealed.copy(into, at)
    releaseChunk(sealed)
    cipher.final()
    return plain.length + cipher.getAuthTag().copy(into, at + plain.length)
  }

  /** @throws PgrecallError `damaged` */
  open(sealed: Buffer, isLast: boolean): Buffer {
    if (sealed.length < TAG_BYTES) throw cutOff()
    const plain = this.#decrypt(sealed, isLast)
    if (!plain) throw this.#faultOf(sealed, isLast)
    // Only an empty file has an empty chunk.
    if (plain.length === 0 && this.#count > 0) throw damaged('its last chunk is empty')
    this.#count++
    return plain
  }

  #faultOf(sealed: Buffer, isLast: boolean): PgrecallError {
    const fitsElsewhere = this.#decrypt(sealed, !isLast) !== undefined
    if (!fitsElsewhere) return damaged(`chunk ${this.#count + 1} does not fit its tag`)
    return isLast ? cutOff() : damaged('bytes follow behind its end')
  }

  #decrypt(sealed: Buffer, isLast: boolean): Buffer | undefined {
    const decipher = createDecipheriv('chacha20-poly1305', this.#key, nonceOf(this.#count, isLast), {
      authTagLength: TAG_BYTES,
    })
    decipher.setAuthTag(sealed.subarray(-TAG_BYTES))
    const plain = decipher.update(sealed.subarray(0, -TAG_BYTES))
    try {
      decipher.final()
      return plain
    } catch {
      return undefined
    }
  }
}

const damaged = (what: string) => new PgrecallError('damaged', `an encrypted object is damaged: ${what}`)

/** Eleven bytes for the number, and one for whether it is the last. */
function nonceOf(count: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(12)
  nonce.writeUIntBE(count, 5, 6)
  nonce[11] = isLast ? 1 : 0
  return nonce
}

/** Gives back what a cipher took for a chunk: left to the garbage collector, it costs a fifth of the rate. */
function releaseChunk(chunk: Buffer): void {
  if (chunk.length === CHUNK_BYTES && chunk.buffer.byteLength === CHUNK_BYTES) {
    ;(chunk.buffer as ArrayBuffer).transfer(0)
  }
}

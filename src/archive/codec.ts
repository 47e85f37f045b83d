import type { Duplex } from 'node:stream'
import { finished, pipeline } from 'node:stream/promises'
import {
  constants,
  createGunzip,
  createGzip,
  createZstdCompress,
  gunzipSync,
  gzipSync,
  type ZlibOptions,
  type ZstdOptions,
  zstdCompressSync,
  zstdDecompressSync,
} from 'node:zlib'
import { PendingBytes } from './pending-bytes.ts'

/** How objects are compressed: a method with its level, or not at all. */
export type Codec = { method: 'zstd' | 'gzip'; level: number } | { method: 'none' }

/** The largest decoded frame that is believed; ours hold 4 to 16 MiB, so more is damage or malice. */
const MAX_FRAME_BYTES = 64 * 1024 * 1024
/** What is expected of a frame that does not tell its size. */
const USUAL_FRAME_BYTES = 4 * 1024 * 1024
/** The largest memory that Node's buffers share between them (`Buffer.poolSize`), and more. */
const SHARED_BYTES = 256 * 1024

const LEVELS = { zstd: { min: 1, max: 19, usual: 1 }, gzip: { min: 1, max: 9, usual: 6 } }

/**
 * Reads `zstd`, `zstd:3`, `gzip:6` or `none`.
 * @returns the codec, or a sentence that says what is wrong
 */
export function parseCodec(text: string): Codec | string {
  if (text === 'none') return { method: 'none' }
  const match = /^(zstd|gzip)(?::(\d+))?$/.exec(text)
  if (!match) return `"${text}" is no compression; use zstd:N, gzip:N or none`
  const method = match[1] as 'zstd' | 'gzip'
  const { min, max, usual } = LEVELS[method]
  const level = match[2] === undefined ? usual : Number(match[2])
  if (level < min || level > max) return `the level of ${method} goes from ${min} to ${max}, not ${level}`
  return { method, level }
}

export function formatCodec(codec: Codec): string {
  return codec.method === 'none' ? 'none' : `${codec.method}:${codec.level}`
}

/** The ending of an object's name: `.zst`, `.gz` or nothing. */
export function codecSuffix(codec: Codec): string {
  return { zstd: '.zst', gzip: '.gz', none: '' }[codec.method]
}

/** The codec's method by an object's name, encrypted or not. */
export function methodOf(objectName: string): Codec['method'] {
  const name = objectName.replace(/\.age$/, '')
  return name.endsWith('.zst') ? 'zstd' : name.endsWith('.gz') ? 'gzip' : 'none'
}

/** The command that a person decodes with, reading standard input or a file. */
export function decodeCommand(method: Codec['method']): string {
  return { zstd: 'zstd -dc', gzip: 'gzip -dc', none: 'cat' }[method]
}

/**
 * One independent frame (zstd, RFC 8878) or member (gzip, RFC 1952): frames one after another are again a valid
 * stream. Synchronous, for worker threads.
 * @param plain is not kept; for `none` the result is `plain` itself
 */
export function compressFrame(codec: Codec, plain: Buffer): Buffer {
  switch (codec.method) {
    case 'none':
      return plain
    case 'gzip':
      return gzipSync(plain, gzipOptions(codec.level, plain))
    case 'zstd':
      return zstdCompressSync(plain, zstdOptions(codec.level, plain))
  }
}

/** The same in a thread of Node's pool. @param plain is read until the frame is there */
export async function compressFrameAside(codec: Codec, plain: Buffer): Promise<Buffer> {
  switch (codec.method) {
    case 'none':
      return plain
    case 'gzip':
      return pressAside(createGzip(gzipOptions(codec.level, plain)), plain)
    case 'zstd':
      return pressAside(createZstdCompress(zstdOptions(codec.level, plain)), plain)
  }
}

/**
 * Node's own way to do this copies the frame together, and leaves the memory that it was made in to the garbage collector. Here
 * it stays in that memory, which `releaseMemory` gives back.
 */
async function pressAside(press: Duplex, plain: Buffer): Promise<Buffer> {
  const pieces: Buffer[] = []
  press.on('data', (piece: Buffer) => void pieces.push(piece)).end(plain)
  await finished(press)
  let end = pieces[0]!.byteOffset
  const areOne = pieces.every(({ buffer, byteOffset, length }) => {
    const isNext = buffer === pieces[0]!.buffer && byteOffset === end
    end += length
    return isNext
  })
  const { buffer, byteOffset } = pieces[0]!
  return areOne ? Buffer.from(buffer, byteOffset, end - byteOffset) : Buffer.concat(pieces)
}

// Memory for all of a frame at once: it would grow in small steps otherwise.
const gzipOptions = (level: number, plain: Buffer): ZlibOptions => ({
  level,
  chunkSize: Math.max(64, plain.length),
})

const zstdOptions = (level: number, plain: Buffer): ZstdOptions => ({
  chunkSize: Math.max(64, plain.length + (plain.length >> 7) + 1024),
  params: {
    [constants.ZSTD_c_compressionLevel]: level,
    [constants.ZSTD_c_checksumFlag]: 1,
    [constants.ZSTD_c_contentSizeFlag]: 1,
  },
})

/**
 * Decodes exactly one zstd frame. Where the frame tells its content's size, as ours do, its memory is taken once.
 * @throws when it is damaged or larger than 64 MiB
 */
export function decompressFrame(frame: Buffer): Buffer {
  return zstdDecompressSync(frame, {
    // A little more than the content: zlib takes a second piece of memory as soon as the first is full.
    chunkSize: Math.min(contentBytes(frame) ?? USUAL_FRAME_BYTES, MAX_FRAME_BYTES) + 64,
    maxOutputLength: MAX_FRAME_BYTES,
  })
}

/**
 * Decodes one frame that was cut out of a stored stream.
 * @returns for `none` the frame itself
 * @throws when it is damaged or larger than 64 MiB
 */
export function decodeFrame(method: Codec['method'], frame: Buffer): Buffer {
  switch (method) {
    case 'none':
      return frame
    case 'gzip':
      return gunzipSync(frame, { chunkSize: USUAL_FRAME_BYTES + 64, maxOutputLength: MAX_FRAME_BYTES })
    case 'zstd':
      return decompressFrame(frame)
  }
}

/**
 * Gives back the memory of a frame, compressed or decoded here, that nobody reads any more. Left to the garbage
 * collector, megabytes would pile up that it does not see, and each frame would need fresh pages of the kernel.
 * Not for what `compressFrame` gives for `none`, which is the caller's own buffer.
 */
export function releaseMemory(bytes: Buffer): void {
  // Small buffers share their memory with others.
  if (bytes.buffer.byteLength > SHARED_BYTES && bytes.buffer instanceof ArrayBuffer) bytes.buffer.transfer(0)
}

/**
 * Decodes a stored stream as it arrives. A piece is valid until the next one is asked for: then its memory is reused.
 * @throws Error when the bytes are damaged or end in the middle
 */
export async function* decode(method: Codec['method'], stored: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  if (method === 'none') yield* stored
  else if (method === 'gzip') yield* gunzip(stored)
  else {
    for await (const frame of splitFrames(stored)) {
      const plain = decompressFrame(frame)
      yield plain
      releaseMemory(plain)
    }
  }
}

async function* gunzip(stored: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  const copies = async function* () {
    for await (const chunk of stored) yield Buffer.from(chunk)
  }
  const plain = createGunzip({ chunkSize: 1024 * 1024 })
  // Its errors arrive through `plain`; one after the reader went away has nobody to tell.
  pipeline(copies, plain).catch(() => {})
  yield* plain
}

/**
 * Cuts a stream of zstd frames into the frames, without the skippable ones. A frame is valid until the next one is
 * asked for: all of them pass through one buffer, which only grows. As a chunk is copied there at once, the next one is
 * on its way while the frames of this one are decoded.
 */
async function* splitFrames(stored: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  const chunks = stored[Symbol.asyncIterator]()
  const pending = new PendingBytes()
  try {
    for (let next = await chunks.next(); !next.done; ) {
      pending.append(next.value)
      const coming = chunks.next()
      // It is awaited below, unless something fails before.
      coming.catch(() => {})
      for (let frame = measureFrame(pending.bytes); frame; frame = measureFrame(pending.bytes)) {
        if (!frame.skippable) yield pending.bytes.subarray(0, frame.bytes)
        pending.remove(frame.bytes)
      }
      if (pending.bytes.length > MAX_FRAME_BYTES + MAX_FRAME_BYTES / 64)
        throw new Error('a compressed frame is larger than any that pgrecall writes')
      next = await coming
    }
    if (pending.bytes.length > 0) throw new Error('the compressed data ends in the middle of a frame')
  } finally {
    await chunks.return?.()
  }
}

/**
 * How long the frame at the start of `bytes` is, or undefined while it is not all there. Frames carry no length
 * of their own: it is the sum of their blocks'.
 * @see https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1
 */
export function measureFrame(bytes: Buffer): { bytes: number; skippable: boolean } | undefined {
  if (bytes.length < 8) return undefined
  const magic = bytes.readUInt32LE(0)
  if ((magic & 0xfffffff0) >>> 0 === 0x184d2a50) {
    const length = 8 + bytes.readUInt32LE(4)
    return bytes.length >= length ? { bytes: length, skippable: true } : undefined
  }
  if (magic !== 0xfd2fb528) throw new Error('the bytes are no zstd data')
  const { headerBytes, checksumBytes } = readFrameHeader(bytes)
  let at = headerBytes
  for (let last = false; !last; ) {
    if (at + 3 > bytes.length) return undefined
    const header = bytes.readUIntLE(at, 3)
    const isRle = ((header >> 1) & 3) === 1
    last = (header & 1) === 1
    at += 3 + (isRle ? 1 : header >> 3)
  }
  at += checksumBytes
  return bytes.length >= at ? { bytes: at, skippable: false } : undefined
}

/** @see https://www.rfc-editor.org/rfc/rfc8878#section-3.1.1.1 */
function readFrameHeader(bytes: Buffer) {
  const descriptor = bytes[4]!
  const isSingleSegment = (descriptor & 0x20) !== 0
  const sizeAt = 5 + (isSingleSegment ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]!
  const sizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6]!
  return { sizeAt, sizeBytes, headerBytes: sizeAt + sizeBytes, checksumBytes: (descriptor & 4) !== 0 ? 4 : 0 }
}

/** The size of the content, when the frame tells it. */
function contentBytes(frame: Buffer): number | undefined {
  const { sizeAt, sizeBytes } = readFrameHeader(frame)
  if (sizeBytes === 0 || frame.length < sizeAt + sizeBytes) return undefined
  if (sizeBytes === 8) return Number(frame.readBigUInt64LE(sizeAt))
  return frame.readUIntLE(sizeAt, sizeBytes) + (sizeBytes === 2 ? 256 : 0)
}

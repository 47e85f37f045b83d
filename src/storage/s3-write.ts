import { createHash, randomBytes } from 'node:crypto'
import type { S3Bucket } from './s3-client.ts'
import { S3Fault } from './s3-fault.ts'
import {
  type Attributes,
  ID,
  LARGEST_PART_BYTES,
  MultipartUpload,
  SMALLEST_PART_BYTES,
} from './s3-multipart.ts'
import { headOf } from './s3-read.ts'
import type { PutOptions, S3Address, Source } from './storage.ts'

const DAY_MS = 24 * 60 * 60 * 1000
/** After so many parts they double, so that an object whose size nobody knows reaches S3's largest within the most parts. */
const PARTS_OF_ONE_SIZE = 1000

type Lock = { mode: 'GOVERNANCE' | 'COMPLIANCE'; until: Date }

/** Writes objects into a bucket: whole ones by one request, streams by parts. Keys are whole names in the bucket. */
export class S3Writer {
  readonly #bucket: S3Bucket
  readonly #address: S3Address
  /** Buffers of parts that are on no way any more. */
  readonly #spare: Buffer[] = []

  constructor(bucket: S3Bucket, address: S3Address) {
    this.#bucket = bucket
    this.#address = address
  }

  async put(key: string, source: Source, options: PutOptions): Promise<'stored' | 'exists'> {
    const lock = options.immutable && !options.lockedLater ? this.#lock() : undefined
    const attributes = this.attributes(lock, options.immutable)
    if (source instanceof Uint8Array) return this.#putWhole(key, source, attributes, options)
    // A list is in memory already; one request for all of it is what a condition is exact for.
    if (Array.isArray(source)) return this.#putWhole(key, Buffer.concat(source), attributes, options)
    return this.#putStream(key, source, attributes, options)
  }

  /** What is said of an object when it is written, with an id that nobody else has. */
  attributes(lock: Lock | undefined, isImmutable = false): Attributes {
    const { storageClass, tags = {}, serverSideEncryption, kmsKeyId } = this.#address
    return {
      Metadata: { [ID]: randomBytes(16).toString('hex') },
      ContentType: 'application/octet-stream',
      ...(isImmutable && storageClass && { StorageClass: storageClass as 'STANDARD' }),
      ...(Object.keys(tags).length > 0 && { Tagging: asQuery(tags) }),
      ...(serverSideEncryption && { ServerSideEncryption: serverSideEncryption }),
      ...(kmsKeyId && { SSEKMSKeyId: kmsKeyId }),
      ...(lock && { ObjectLockMode: lock.mode, ObjectLockRetainUntilDate: lock.until }),
    }
  }

  /** Sends one part; where objects are locked, S3 wants the sum that is its oldest. */
  sendPart(body: Buffer): Parameters<MultipartUpload['add']>[0] {
    const input = { Body: body, ...this.sumOf(body) }
    return async (part, signal) => (await this.#bucket.send('UploadPart', { ...part, ...input }, signal)).ETag
  }

  /** Ceph 16 takes the lock of an upload in parts, and forgets it. */
  async seeThatLocked(key: string, { ObjectLockMode: mode, ObjectLockRetainUntilDate: until }: Attributes) {
    if (mode && until) await this.lockUntil(key, { mode, until })
  }

  /** Locks an object until a moment, unless it is locked for longer. @returns whether there is such an object */
  async lockUntil(key: string, lock: Lock): Promise<boolean> {
    const head = await headOf(this.#bucket, key)
    if (!head) return false
    if (head.ObjectLockRetainUntilDate && head.ObjectLockRetainUntilDate >= lock.until) return true
    const { VersionId, ObjectLockMode = lock.mode } = head
    await this.#bucket.send('PutObjectRetention', {
      Key: key,
      ...(VersionId !== undefined && { VersionId }),
      // Nobody may turn COMPLIANCE into GOVERNANCE, and what is configured now may be another than then.
      Retention: { Mode: ObjectLockMode, RetainUntilDate: lock.until },
    })
    return true
  }

  async #putWhole(
    key: string,
    body: Uint8Array,
    attributes: Attributes,
    { ifAbsent = false, signal }: PutOptions,
  ): Promise<'stored' | 'exists'> {
    const isConditional = ifAbsent && this.#address.conditionalWrites
    const isLookedAt = ifAbsent && !isConditional
    if (isLookedAt && (await headOf(this.#bucket, key, signal))) return 'exists'
    const condition = isConditional ? { IfNoneMatch: '*' } : {}
    try {
      const input = { Key: key, Body: body, ...attributes, ...this.sumOf(body), ...condition }
      await this.#bucket.send('PutObject', input, signal)
    } catch (error) {
      if (!(error instanceof S3Fault) || !error.isPreconditionFailed) throw error
      // Our own earlier attempt, whose answer was lost, is in its way.
      return error.mayHaveHappened && (await this.#isOurs(key, attributes, signal)) ? 'stored' : 'exists'
    }
    // Without conditions, of two who looked at the same moment the one who wrote last has stored.
    return isLookedAt && !(await this.#isOurs(key, attributes, signal)) ? 'exists' : 'stored'
  }

  async #isOurs(key: string, { Metadata }: Attributes, signal: AbortSignal | undefined): Promise<boolean> {
    return (await headOf(this.#bucket, key, signal))?.Metadata?.[ID] === Metadata[ID]
  }

  /** Gathers chunks to parts. What fits into the first one is written whole. */
  async #putStream(
    key: string,
    source: Exclude<Source, Uint8Array>,
    attributes: Attributes,
    options: PutOptions,
  ): Promise<'stored' | 'exists'> {
    const { ifAbsent = false, signal } = options
    let part = this.#emptyPart(0)
    let filled = 0
    let upload: MultipartUpload | undefined
    const send = async (to: MultipartUpload) => {
      const full = part
      await to.add(this.sendPart(full.subarray(0, filled)), () => this.#spare.push(full))
      part = this.#emptyPart(to.parts)
      filled = 0
    }
    await using resources = new AsyncDisposableStack()
    for await (const chunk of source) {
      signal?.throwIfAborted()
      upload?.throwIfFailed()
      for (let taken = 0; taken < chunk.length; ) {
        if (filled === part.length) {
          if (!upload) {
            if (ifAbsent && (await headOf(this.#bucket, key, signal))) return 'exists'
            const { parallelParts } = this.#address
            upload = await MultipartUpload.begin(this.#bucket, key, attributes, parallelParts, signal)
            resources.use(upload)
          }
          await send(upload)
        }
        // Copied, since the producer may use its chunk again while this part is on its way.
        const piece = chunk.subarray(taken, taken + part.length - filled)
        part.set(piece, filled)
        filled += piece.length
        taken += piece.length
      }
    }
    signal?.throwIfAborted()
    if (!upload) {
      const result = await this.#putWhole(key, part.subarray(0, filled), attributes, options)
      this.#spare.push(part)
      return result
    }
    await upload.add(this.sendPart(part.subarray(0, filled)), () => this.#spare.push(part))
    if (ifAbsent && (await headOf(this.#bucket, key, signal))) return 'exists'
    const result = await upload.complete(ifAbsent && this.#address.conditionalWrites, signal)
    if (result === 'stored') await this.seeThatLocked(key, attributes)
    return result
  }

  /** A buffer for the next part; those that were sent are used again, since fresh memory costs. @param before parts there are already */
  #emptyPart(before: number): Buffer {
    const bytes = Math.max(this.#address.partBytes, SMALLEST_PART_BYTES)
    const size = Math.min(bytes * 2 ** Math.floor(before / PARTS_OF_ONE_SIZE), LARGEST_PART_BYTES)
    const used = this.#spare.findIndex((buffer) => buffer.length === size)
    return used < 0 ? Buffer.allocUnsafeSlow(size) : this.#spare.splice(used, 1)[0]!
  }

  #lock(): Lock | undefined {
    const { objectLock } = this.#address
    return objectLock && { mode: objectLock.mode, until: new Date(Date.now() + objectLock.days * DAY_MS) }
  }

  /** https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html: uploads into such a bucket need it. */
  sumOf(body: Uint8Array): { ContentMD5?: string } {
    return this.#address.objectLock ? { ContentMD5: createHash('md5').update(body).digest('base64') } : {}
  }
}

/** Stores take `%20` for a space, and some a `+` for itself. */
function asQuery(tags: Record<string, string>): string {
  return Object.entries(tags)
    .map((pair) => pair.map(encodeURIComponent).join('='))
    .join('&')
}

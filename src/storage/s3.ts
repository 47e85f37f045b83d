import { PATIENCE, type Patience, S3Bucket } from './s3-client.ts'
import { lockedObject, s3Error, urlOf } from './s3-errors.ts'
import { S3Fault } from './s3-fault.ts'
import { listNames, listObjects, sweepUploads } from './s3-listing.ts'
import { lookAtBucket, probeBucket } from './s3-probe.ts'
import { headOf, readObjectOf } from './s3-read.ts'
import { replaceStartOf } from './s3-rewrite.ts'
import { S3Writer } from './s3-write.ts'
import {
  absentObject,
  type GetOptions,
  type ListOptions,
  type ObjectFacts,
  type ProbeFinding,
  type PutOptions,
  requireKey,
  requirePrefix,
  type S3Address,
  type Source,
  type Storage,
} from './storage.ts'

/**
 * A repository in a bucket of S3, or of a store that speaks like it.
 *
 * An object becomes visible with the answer to its last request, whole or not at all. Every one carries an id in its metadata, by
 * which a write whose answer was lost is known for our own.
 */
export class S3Storage implements Storage {
  readonly location: string
  readonly address: S3Address
  readonly #bucket: S3Bucket
  readonly #writer: S3Writer

  /** Nothing is asked of the store before the first call. @param patience how long it is waited for, where not as usual */
  constructor(address: S3Address, patience: Partial<Patience> = {}) {
    this.location = urlOf(address, address.prefix.replace(/\/$/, ''))
    this.address = address
    this.#bucket = new S3Bucket(address, { ...PATIENCE, ...patience })
    this.#writer = new S3Writer(this.#bucket, address)
  }

  async put(key: string, source: Source, options: PutOptions = {}): Promise<'stored' | 'exists'> {
    return this.#reporting(() => this.#writer.put(this.#nameOf(key), source, options))
  }

  async get(key: string, options: GetOptions = {}): Promise<AsyncIterable<Buffer> | undefined> {
    const name = this.#nameOf(key)
    const chunks = await this.#reporting(() => readObjectOf(this.#bucket, this.address, name, options))
    return chunks && this.#reportingEach(chunks)
  }

  async stat(key: string): Promise<ObjectFacts | undefined> {
    const head = await this.#reporting(() => headOf(this.#bucket, this.#nameOf(key)))
    if (!head) return undefined
    const lockedUntil = this.address.objectLock && head.ObjectLockRetainUntilDate
    return {
      key,
      bytes: head.ContentLength ?? 0,
      modified: head.LastModified ?? new Date(0),
      ...(lockedUntil && { lockedUntil }),
    }
  }

  list(prefix: string, options: ListOptions = {}): AsyncIterable<ObjectFacts> {
    requirePrefix(prefix)
    return this.#reportingEach(listObjects(this.#bucket, this.address.prefix, prefix, options))
  }

  folders(prefix: string): AsyncIterable<string> {
    requirePrefix(prefix)
    return this.#reportingEach(listNames(this.#bucket, this.address.prefix, prefix, 'folders'))
  }

  names(prefix: string): AsyncIterable<string> {
    requirePrefix(prefix)
    return this.#reportingEach(listNames(this.#bucket, this.address.prefix, prefix, 'objects'))
  }

  async remove(key: string): Promise<void> {
    const name = this.#nameOf(key)
    await this.#reporting(async () => {
      if (this.address.objectLock) await this.#removeVersion(name)
      else await this.#bucket.send('DeleteObject', { Key: name })
    })
  }

  async replaceStart(
    key: string,
    oldBytes: number,
    start: Uint8Array,
    { signal }: { signal?: AbortSignal } = {},
  ): Promise<void> {
    const name = this.#nameOf(key)
    await this.#reporting(() =>
      replaceStartOf(this.#bucket, this.#writer, this.address, name, oldBytes, start, signal),
    )
  }

  async lockUntil(key: string, until: Date): Promise<void> {
    const name = this.#nameOf(key)
    const { objectLock } = this.address
    if (!objectLock) return
    const lock = { mode: objectLock.mode, until }
    const isThere = await this.#reporting(() => this.#writer.lockUntil(name, lock))
    if (!isThere) throw absentObject(urlOf(this.address, name))
  }

  async sweep(): Promise<{ objects: number; bytes: number }> {
    return this.#reporting(() => sweepUploads(this.#bucket, this.address.prefix))
  }

  /** A bucket has no end. */
  async freeBytes(): Promise<undefined> {}

  probe(signal?: AbortSignal, { readOnly = false } = {}): AsyncIterable<ProbeFinding> {
    if (readOnly) return lookAtBucket(this, this.#bucket, signal)
    return probeBucket(this, this.#bucket, this.#writer, signal)
  }

  #nameOf(key: string): string {
    requireKey(key)
    return this.address.prefix + key
  }

  /**
   * In a bucket with versions a plain removal only hides an object, which is allowed for a locked one too, and frees nothing. So
   * the version itself is removed; what lies below it, of a name that was written more than once, is hidden.
   */
  async #removeVersion(name: string): Promise<void> {
    const head = await headOf(this.#bucket, name)
    if (!head) return
    const { VersionId, ObjectLockRetainUntilDate: until, ObjectLockLegalHoldStatus: hold } = head
    const version = VersionId === undefined ? {} : { VersionId }
    try {
      await this.#bucket.send('DeleteObject', { Key: name, ...version })
    } catch (error) {
      const isDenied = error instanceof S3Fault && error.status === 403
      const isStillLocked = until !== undefined && until.getTime() > Date.now()
      const isLocked = isDenied && (isStillLocked || hold === 'ON' || /object lock/i.test(error.message))
      throw isLocked ? lockedObject(error, this.address, until) : error
    }
    if (await headOf(this.#bucket, name)) await this.#bucket.send('DeleteObject', { Key: name })
  }

  async #reporting<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (error) {
      throw s3Error(error, this.address)
    }
  }

  async *#reportingEach<T>(items: AsyncIterable<T>): AsyncIterable<T> {
    try {
      yield* items
    } catch (error) {
      throw s3Error(error, this.address)
    }
  }
}

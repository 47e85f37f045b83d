import type { Input, S3Bucket } from './s3-client.ts'
import { S3Fault } from './s3-fault.ts'
import { headOf } from './s3-read.ts'

/** S3's limits. https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html */
export const SMALLEST_PART_BYTES = 5 * 1024 ** 2
export const LARGEST_PART_BYTES = 5 * 1024 ** 3
export const MOST_PARTS = 10_000
/** The metadata that tells our own write from another's. */
export const ID = 'pgrecall-id'

/** What is said of an object when it is written. */
export type Attributes = Omit<Input<'CreateMultipartUpload'>, 'Key'> & { Metadata: { [ID]: string } }

/** How one part gets to the store; gives back its ETag. */
type Send = (
  upload: { Key: string; UploadId: string; PartNumber: number },
  signal: AbortSignal,
) => Promise<string | undefined>

/**
 * An object that arrives in parts, several at a time. It is not visible before `complete`, and what is disposed of without that
 * leaves no parts.
 */
export class MultipartUpload implements AsyncDisposable {
  readonly #bucket: S3Bucket
  readonly #key: string
  readonly #id: string
  readonly #uploadId: string
  readonly #parallel: number
  readonly #stop = new AbortController()
  readonly #signal: AbortSignal
  readonly #running = new Set<Promise<void>>()
  readonly #etags: string[] = []
  #begun = 0
  #fault: { error: unknown } | undefined
  #isComplete = false

  private constructor(
    bucket: S3Bucket,
    key: string,
    id: string,
    uploadId: string,
    parallel: number,
    signal: AbortSignal | undefined,
  ) {
    this.#bucket = bucket
    this.#key = key
    this.#id = id
    this.#uploadId = uploadId
    this.#parallel = parallel
    this.#signal = signal ? AbortSignal.any([signal, this.#stop.signal]) : this.#stop.signal
  }

  /** @param key the whole name in the bucket @param parallel how many parts are on their way at once */
  static async begin(
    bucket: S3Bucket,
    key: string,
    attributes: Attributes,
    parallel: number,
    signal?: AbortSignal,
  ): Promise<MultipartUpload> {
    const { UploadId } = await bucket.send('CreateMultipartUpload', { Key: key, ...attributes }, signal)
    return new MultipartUpload(bucket, key, attributes.Metadata[ID], UploadId!, parallel, signal)
  }

  /** How many parts were begun. */
  get parts(): number {
    return this.#begun
  }

  /**
   * Begins the next part, as soon as there is room for it.
   * @param done is called when the part is stored, or has failed
   * @throws what an earlier part has failed with
   */
  async add(send: Send, done?: () => void): Promise<void> {
    while (this.#running.size >= this.#parallel) await Promise.race(this.#running)
    this.throwIfFailed()
    const number = ++this.#begun
    const part = { Key: this.#key, UploadId: this.#uploadId, PartNumber: number }
    const sending = send(part, this.#signal)
      .then(
        (etag) => {
          this.#etags[number - 1] = etag ?? ''
        },
        (error: unknown) => {
          this.#fault ??= { error }
        },
      )
      .finally(() => {
        this.#running.delete(sending)
        done?.()
      })
    this.#running.add(sending)
  }

  /** So that a producer does not go on for an upload that is lost already. */
  throwIfFailed(): void {
    if (this.#fault) throw this.#fault.error
  }

  /** Makes an object of the parts. @param ifAbsent with the condition, for stores that know it here */
  async complete(ifAbsent: boolean, signal?: AbortSignal): Promise<'stored' | 'exists'> {
    await Promise.all(this.#running)
    this.throwIfFailed()
    try {
      await this.#bucket.send(
        'CompleteMultipartUpload',
        {
          Key: this.#key,
          UploadId: this.#uploadId,
          MultipartUpload: { Parts: this.#etags.map((ETag, index) => ({ ETag, PartNumber: index + 1 })) },
          ...(ifAbsent && { IfNoneMatch: '*' }),
        },
        signal,
      )
    } catch (error) {
      // The answer to an attempt that did it was lost: the next one finds no upload any more, or our own object in its way.
      const isRefused = error instanceof S3Fault && error.isPreconditionFailed
      const isGone = error instanceof S3Fault && error.code === 'NoSuchUpload'
      const isOurs = (isRefused || isGone) && error.mayHaveHappened && (await this.#isStored(signal))
      if (!isOurs) {
        if (isRefused) return 'exists'
        throw error
      }
    }
    this.#isComplete = true
    return 'stored'
  }

  async #isStored(signal: AbortSignal | undefined): Promise<boolean> {
    return (await headOf(this.#bucket, this.#key, signal))?.Metadata?.[ID] === this.#id
  }

  /** Parts that are still on their way could arrive after the upload's end and stay: they are stopped and waited for. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isComplete) return
    this.#stop.abort(new Error('the upload was given up'))
    await Promise.all(this.#running)
    // What made us give up is the error to tell. What this leaves is swept later.
    await this.#bucket
      .send('AbortMultipartUpload', { Key: this.#key, UploadId: this.#uploadId })
      .catch(() => undefined)
  }
}

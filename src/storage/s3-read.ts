import type { Readable } from 'node:stream'
import { PgrecallError } from '../errors.ts'
import type { Output, S3Bucket } from './s3-client.ts'
import { urlOf } from './s3-errors.ts'
import { S3Fault } from './s3-fault.ts'
import type { GetOptions, S3Address } from './storage.ts'

/** The facts of an object, as the store tells them. */
export type Head = Output<'HeadObject'>

/**
 * Asks for the facts of an object. An answer to HEAD has no body, so it does not tell why there is none: the same asked as GET does.
 * @param key the whole name in the bucket
 */
export async function headOf(bucket: S3Bucket, key: string, signal?: AbortSignal): Promise<Head | undefined> {
  try {
    return await bucket.send('HeadObject', { Key: key }, signal)
  } catch (error) {
    if (!(error instanceof S3Fault) || error.passes) throw error
    if (error.status === 404 && bucket.isThere) return undefined
    const found = await openBody(bucket, key, 0, 1, undefined, signal).catch((reason: unknown) => {
      if (reason instanceof S3Fault && reason.isAbsent) return undefined
      throw reason
    })
    bodyOf(found)?.destroy()
    // It was stored between the two questions.
    if (found && error.status === 404) return headOf(bucket, key, signal)
    if (found) throw error
    return undefined
  }
}

/**
 * The bytes of an object, or of a range of it; `undefined` when there is none.
 * @param key the whole name in the bucket
 * @param etag the object must still be the one that had it
 */
export async function readObjectOf(
  bucket: S3Bucket,
  address: S3Address,
  key: string,
  { range, signal, etag }: GetOptions & { etag?: string | undefined },
): Promise<AsyncIterable<Buffer> | undefined> {
  const { offset, length } = range ?? { offset: 0, length: Number.POSITIVE_INFINITY }
  if (length === 0) return (await headOf(bucket, key, signal)) && nothing()
  try {
    const first = await openBody(bucket, key, offset, length, etag, signal)
    return follow(bucket, address, key, offset, first, signal)
  } catch (error) {
    if (!(error instanceof S3Fault)) throw error
    if (error.isAbsent) return undefined
    if (error.code === 'InvalidRange' || error.status === 416) return nothing()
    throw changedMeanwhile(error, address, key)
  }
}

/**
 * Hands on what arrives. A connection that breaks, falls silent or ends early is followed by another one, which goes on at the
 * byte that is missing, as long as each brings some; `If-Match` makes sure that it is still the same object.
 */
async function* follow(
  bucket: S3Bucket,
  address: S3Address,
  key: string,
  offset: number,
  first: Output<'GetObject'>,
  signal: AbortSignal | undefined,
): AsyncIterable<Buffer> {
  const end = endOf(first, offset)
  let position = offset
  let fruitless = 0
  let answer = first
  for (;;) {
    let fault: unknown
    try {
      for await (const chunk of bodyOf(answer)!) {
        position += chunk.length
        fruitless = 0
        yield chunk
        signal?.throwIfAborted()
      }
      if (position === (end ?? position)) return
      fault = new Error(`${position - offset} of ${end! - offset} bytes arrived`)
    } catch (error) {
      signal?.throwIfAborted()
      fault = error
    }
    if (++fruitless >= bucket.patience.attempts) throw new S3Fault('GetObject', key, fruitless, fault)
    await bucket.pause(fruitless, signal)
    const left = end === undefined ? Number.POSITIVE_INFINITY : end - position
    answer = await openBody(bucket, key, position, left, first.ETag, signal).catch((error) => {
      throw changedMeanwhile(error, address, key)
    })
  }
}

/**
 * Where what was asked for ends. The range that is answered counts more than the length, which a proxy may have changed with the
 * body; without either, the end of the body is the end.
 */
function endOf({ ContentLength, ContentRange }: Output<'GetObject'>, offset: number): number | undefined {
  const last = /^bytes \d+-(\d+)\//.exec(ContentRange ?? '')?.[1]
  if (last !== undefined) return Number(last) + 1
  return ContentLength === undefined ? undefined : offset + ContentLength
}

function changedMeanwhile(error: unknown, address: S3Address, key: string): unknown {
  if (!(error instanceof S3Fault) || !(error.isPreconditionFailed || error.isAbsent)) return error
  const what = error.isAbsent ? 'removed' : 'replaced'
  return new PgrecallError('repository', `${urlOf(address, key)} was ${what} while it was read`, {
    cause: error,
  })
}

async function openBody(
  bucket: S3Bucket,
  key: string,
  offset: number,
  length: number,
  etag: string | undefined,
  signal: AbortSignal | undefined,
): Promise<Output<'GetObject'>> {
  const isWhole = offset === 0 && length === Number.POSITIVE_INFINITY
  const last = length === Number.POSITIVE_INFINITY ? '' : offset + length - 1
  const input = {
    Key: key,
    ...(!isWhole && { Range: `bytes=${offset}-${last}` }),
    ...(etag !== undefined && { IfMatch: etag }),
  }
  const answer = await bucket.send('GetObject', input, signal)
  // A proxy that drops the range would hand us other bytes than we asked for.
  if (!isWhole && !answer.ContentRange?.startsWith(`bytes ${offset}-`)) {
    bodyOf(answer)?.destroy()
    throw new S3Fault('GetObject', key, 1, new Error('the answer is not the range that was asked for'))
  }
  return answer
}

function bodyOf(answer: Output<'GetObject'> | undefined): Readable | undefined {
  return answer?.Body as Readable | undefined
}

async function* nothing(): AsyncIterable<Buffer> {}

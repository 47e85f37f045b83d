import type { S3Bucket } from './s3-client.ts'
import { urlOf } from './s3-errors.ts'
import { S3Fault } from './s3-fault.ts'
import { MOST_PARTS, MultipartUpload, SMALLEST_PART_BYTES } from './s3-multipart.ts'
import { type Head, headOf, readObjectOf } from './s3-read.ts'
import type { S3Writer } from './s3-write.ts'
import { absentObject, type S3Address } from './storage.ts'

/** A store that copies in the request's own time must come to its end before we take it for silent. */
const COPIED_BYTES = 256 * 1024 ** 2

/**
 * Gives an object another beginning. The store copies the rest itself, as parts of a new object that takes the old one's place;
 * only as many bytes as make the first part as large as it has to be come and go.
 * @param key the whole name in the bucket
 */
export async function replaceStartOf(
  bucket: S3Bucket,
  writer: S3Writer,
  address: S3Address,
  key: string,
  oldBytes: number,
  start: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  const head = await headOf(bucket, key, signal)
  if (!head) throw absentObject(urlOf(address, key))
  const size = head.ContentLength ?? 0
  const copyFrom = Math.min(size, oldBytes + Math.max(0, SMALLEST_PART_BYTES - start.length))
  const range = { offset: oldBytes, length: copyFrom - oldBytes }
  const options = { range, etag: head.ETag, ...(signal && { signal }) }
  const chunks = await readObjectOf(bucket, address, key, options)
  if (!chunks) throw absentObject(urlOf(address, key))
  const first = Buffer.concat([start, ...(await Array.fromAsync(chunks))])
  const attributes = writer.attributes(lockOf(head), true)
  if (copyFrom === size) {
    const body = { Key: key, Body: first, ...attributes, ...writer.sumOf(first) }
    await bucket.send('PutObject', body, signal)
    return
  }
  await using upload = await MultipartUpload.begin(bucket, key, attributes, address.parallelParts, signal)
  await upload.add(writer.sendPart(first))
  const step = Math.max(COPIED_BYTES, Math.ceil((size - copyFrom) / (MOST_PARTS - 1)))
  for (let from = copyFrom; from < size; from += step) {
    const source = {
      CopySource: `${address.bucket}/${encodeURIComponent(key)}`,
      CopySourceRange: `bytes=${from}-${Math.min(from + step, size) - 1}`,
      ...(head.ETag !== undefined && { CopySourceIfMatch: head.ETag }),
    }
    const rest = { offset: from, length: Math.min(step, size - from) }
    await upload.add(async (part, stop) => {
      try {
        const answer = await bucket.send('UploadPartCopy', { ...part, ...source }, stop)
        return answer.CopyPartResult?.ETag
      } catch (error) {
        // Ceph 16 copies for nobody but who has written the object, also where he may read it and write another.
        if (!(error instanceof S3Fault) || error.status !== 403) throw error
        const piece = await readObjectOf(bucket, address, key, { range: rest, etag: head.ETag, signal: stop })
        return writer.sendPart(Buffer.concat(await Array.fromAsync(piece ?? [])))(part, stop)
      }
    })
  }
  await upload.complete(false, signal)
  await writer.seeThatLocked(key, attributes)
}

/** The new object is locked as long as the old one. */
function lockOf({ ObjectLockMode: mode, ObjectLockRetainUntilDate: until }: Head) {
  return mode && until && until.getTime() > Date.now() ? { mode, until } : undefined
}

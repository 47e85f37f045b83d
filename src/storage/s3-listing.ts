import type { S3Bucket } from './s3-client.ts'
import { S3Fault } from './s3-fault.ts'
import { isValidKey, type ListOptions, type ObjectFacts } from './storage.ts'

const DAY_MS = 24 * 60 * 60 * 1000

/** The objects below a prefix; what others have put there under names that are no keys is left out. */
export async function* listObjects(
  bucket: S3Bucket,
  root: string,
  prefix: string,
  { startAfter = '', signal }: ListOptions,
): AsyncIterable<ObjectFacts> {
  for await (const page of pages(bucket, root + prefix, {
    startAfter: startAfter && root + startAfter,
    signal,
  })) {
    for (const { Key = '', Size = 0, LastModified } of page.Contents ?? []) {
      signal?.throwIfAborted()
      const key = Key.slice(root.length)
      if (isValidKey(key)) yield { key, bytes: Size, modified: LastModified ?? new Date(0) }
    }
  }
}

/** The names directly below a prefix, of folders or of objects. */
export async function* listNames(
  bucket: S3Bucket,
  root: string,
  prefix: string,
  kind: 'folders' | 'objects',
): AsyncIterable<string> {
  const below = root + prefix
  for await (const page of pages(bucket, below, { delimiter: '/' })) {
    const found =
      kind === 'folders'
        ? (page.CommonPrefixes ?? []).map(({ Prefix = '' }) => Prefix.slice(0, -1))
        : (page.Contents ?? []).map(({ Key = '' }) => Key)
    for (const name of found.map((whole) => whole.slice(below.length))) if (isValidKey(name)) yield name
  }
}

async function* pages(
  bucket: S3Bucket,
  prefix: string,
  {
    startAfter,
    delimiter,
    signal,
  }: { startAfter?: string; delimiter?: string; signal?: AbortSignal | undefined },
) {
  let token: string | undefined
  do {
    const from = token === undefined ? startAfter && { StartAfter: startAfter } : { ContinuationToken: token }
    const page = await bucket.send(
      'ListObjectsV2',
      { Prefix: prefix, ...(delimiter && { Delimiter: delimiter }), ...from },
      signal,
    )
    yield page
    token = page.IsTruncated ? page.NextContinuationToken : undefined
  } while (token !== undefined)
}

/**
 * Ends the uploads that nobody goes on with. Who writes them cannot be told, so age decides: none of ours takes a day. Where it
 * is not allowed, or not known, a lifecycle rule of the bucket has to do it.
 */
export async function sweepUploads(
  bucket: S3Bucket,
  root: string,
): Promise<{ objects: number; bytes: number }> {
  const swept = { objects: 0, bytes: 0 }
  try {
    for await (const { Key = '', UploadId = '', Initiated } of unfinishedUploads(bucket, root)) {
      if (!Initiated || Date.now() - Initiated.getTime() < DAY_MS) continue
      const bytes = await endUpload(bucket, Key, UploadId)
      if (bytes === undefined) continue
      swept.objects++
      swept.bytes += bytes
    }
  } catch (error) {
    const isUnable = error instanceof S3Fault && (error.status === 403 || error.status === 501)
    if (!isUnable) throw error
  }
  return swept
}

/** @returns how many bytes lay in it; undefined when it has ended meanwhile */
async function endUpload(bucket: S3Bucket, key: string, uploadId: string): Promise<number | undefined> {
  try {
    const bytes = await uploadedBytes(bucket, key, uploadId)
    await bucket.send('AbortMultipartUpload', { Key: key, UploadId: uploadId })
    return bytes
  } catch (error) {
    if (error instanceof S3Fault && error.code === 'NoSuchUpload') return undefined
    throw error
  }
}

export async function* unfinishedUploads(bucket: S3Bucket, root: string, signal?: AbortSignal) {
  let from = {}
  for (;;) {
    const page = await bucket.send('ListMultipartUploads', { Prefix: root, ...from }, signal)
    yield* page.Uploads ?? []
    if (!page.IsTruncated) return
    from = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker }
  }
}

async function uploadedBytes(bucket: S3Bucket, key: string, uploadId: string): Promise<number> {
  let bytes = 0
  let from = {}
  for (;;) {
    const page = await bucket.send('ListParts', { Key: key, UploadId: uploadId, ...from })
    for (const { Size = 0 } of page.Parts ?? []) bytes += Size
    if (!page.IsTruncated) return bytes
    from = { PartNumberMarker: page.NextPartNumberMarker }
  }
}

import { setTimeout as wait } from 'node:timers/promises'
import { judgeClock, LOCKS_GO_BY_IT, PROBE_KEY, tryIt } from './probe.ts'
import type { S3Bucket } from './s3-client.ts'
import { s3Error } from './s3-errors.ts'
import { S3Fault } from './s3-fault.ts'
import { unfinishedUploads } from './s3-listing.ts'
import { MultipartUpload } from './s3-multipart.ts'
import type { S3Writer } from './s3-write.ts'
import { type ProbeFinding, readObject, type S3Address, type Storage } from './storage.ts'

type Result = string | Omit<ProbeFinding, 'subject'>
type Step = [subject: string, work: () => Promise<Result>, whenItFails?: 'warn']

/** Long enough that the store takes it for the future, and soon over. */
const SHORT_LOCK_MS = 3000

/** Tries what pgrecall does with a bucket, one request of each kind, and looks at what protects the objects in it. */
export async function* probeBucket(
  storage: Storage & { address: S3Address },
  bucket: S3Bucket,
  writer: S3Writer,
  signal?: AbortSignal,
): AsyncIterable<ProbeFinding> {
  const { address } = storage
  const look = lookingSteps(storage, bucket)
  const content = Buffer.from(`written by pgrecall check at ${new Date().toISOString()}\n`)
  const key = address.prefix + PROBE_KEY
  const write = async () => {
    await storage.put(PROBE_KEY, content)
    return `${storage.location} can be written`
  }
  const steps: Step[] = [
    ['write on a condition', () => writeOnCondition(storage, content)],
    ['read an object', () => readBack(storage, content)],
    ['read a range', () => readBack(storage, content, { offset: 3, length: 7 })],
    ['list objects', () => listIt(storage)],
    ['write in parts', () => writeInParts(bucket, writer, key, content)],
    ['end an upload', () => endUpload(bucket, writer, key)],
    ['list unfinished uploads', () => listUploads(bucket, key), 'warn'],
    ...(address.objectLock
      ? [['lock an object', () => lockIt(bucket, writer, key, address, signal)] as Step]
      : []),
    ['remove an object', () => removeIt(storage), 'warn'],
    ...look,
  ]
  const written = await tryIt('write an object', write, signal)
  yield written
  // The rest would say the same again.
  if (written.verdict === 'fail') return
  for (const step of steps) yield await tryStep(step, address, signal)
}

/** Looks at a bucket as who only reads it: changes nothing. */
export async function* lookAtBucket(
  storage: Storage & { address: S3Address },
  bucket: S3Bucket,
  signal?: AbortSignal,
): AsyncIterable<ProbeFinding> {
  const listed = await tryStep(['list objects', () => listAny(storage)], storage.address, signal)
  yield listed
  if (listed.verdict === 'fail') return
  for (const step of lookingSteps(storage, bucket)) yield await tryStep(step, storage.address, signal)
}

const lookingSteps = ({ address }: { address: S3Address }, bucket: S3Bucket): Step[] => [
  ['clock', () => compareClocks(bucket)],
  ['protection', () => seeProtection(bucket, address), 'warn'],
]

function tryStep([subject, work, whenItFails]: Step, address: S3Address, signal?: AbortSignal) {
  const told = () =>
    work().catch((error: unknown) => {
      throw s3Error(error, address)
    })
  return tryIt(subject, told, signal, whenItFails)
}

async function listAny(storage: Storage): Promise<Result> {
  for await (const _ of storage.list('')) break
  return 'objects can be listed'
}

async function writeOnCondition(storage: Storage & { address: S3Address }, content: Buffer): Promise<Result> {
  if (!storage.address.conditionalWrites)
    return {
      verdict: 'warn',
      text: 'not used (conditionalWrites: false), so two hosts that write the same name at the same moment may both succeed',
      hint: 'leave conditionalWrites out if the store knows "If-None-Match" on writes',
    }
  const result = await storage.put(PROBE_KEY, content, { ifAbsent: true })
  if (result === 'exists') return 'an object is not replaced by a write that must not'
  return {
    verdict: 'fail',
    text: 'the store ignores "If-None-Match": an object was replaced by a write that must not',
    hint: 'set conditionalWrites: false in the configuration',
  }
}

async function readBack(
  storage: Storage,
  content: Buffer,
  range?: { offset: number; length: number },
): Promise<Result> {
  const expected = range ? content.subarray(range.offset, range.offset + range.length) : content
  const read = await readObject(storage, PROBE_KEY, range && { range })
  if (read?.equals(expected)) return 'what was written reads the same'
  return { verdict: 'fail', text: `${PROBE_KEY} was written, and does not read the same` }
}

async function listIt(storage: Storage): Promise<Result> {
  for await (const { key } of storage.list(PROBE_KEY))
    if (key === PROBE_KEY) return 'what was written is listed'
  return { verdict: 'fail', text: `${PROBE_KEY} was written, and is not listed` }
}

async function writeInParts(
  bucket: S3Bucket,
  writer: S3Writer,
  key: string,
  content: Buffer,
): Promise<Result> {
  await using upload = await MultipartUpload.begin(bucket, key, writer.attributes(undefined), 1)
  await upload.add(writer.sendPart(content))
  await upload.complete(false)
  return 'an upload in parts becomes an object'
}

/** Asked for itself: an upload that is given up otherwise says nothing of what it could not end. */
async function endUpload(bucket: S3Bucket, writer: S3Writer, key: string): Promise<Result> {
  const { UploadId } = await bucket.send('CreateMultipartUpload', {
    Key: key,
    ...writer.attributes(undefined),
  })
  await bucket.send('AbortMultipartUpload', { Key: key, UploadId })
  return 'what was begun and not finished leaves nothing'
}

async function listUploads(bucket: S3Bucket, key: string): Promise<Result> {
  for await (const _ of unfinishedUploads(bucket, key)) break
  return 'what a killed process leaves can be found and removed'
}

async function lockIt(
  bucket: S3Bucket,
  writer: S3Writer,
  key: string,
  { objectLock }: S3Address,
  signal?: AbortSignal,
): Promise<Result> {
  const until = new Date(Date.now() + (await bucket.clockAheadMs()) + SHORT_LOCK_MS)
  await writer.lockUntil(key, { mode: objectLock!.mode, until })
  // What comes next removes it.
  await wait(SHORT_LOCK_MS + 1000, undefined, signal && { signal })
  return `objects can be locked (${objectLock!.mode})`
}

async function removeIt(storage: Storage): Promise<Result> {
  await storage.remove(PROBE_KEY)
  return 'what was written is removed'
}

async function compareClocks(bucket: S3Bucket): Promise<Result> {
  return judgeClock(await bucket.clockAheadMs(), "the store's", LOCKS_GO_BY_IT)
}

async function seeProtection(bucket: S3Bucket, { objectLock }: S3Address): Promise<Result> {
  const canLock = await bucket.send('GetObjectLockConfiguration', {}).then(
    ({ ObjectLockConfiguration }) => ObjectLockConfiguration?.ObjectLockEnabled === 'Enabled',
    (error: unknown) => {
      if (error instanceof S3Fault && (error.status === 404 || error.status === 501)) return false
      throw error
    },
  )
  if (objectLock && !canLock)
    return {
      verdict: 'fail',
      text: 'objectLock is configured, and the bucket has none',
      hint: 'make a bucket with object lock, or leave objectLock out',
    }
  if (objectLock) return `what is stored stays locked for ${objectLock.days} days (${objectLock.mode})`
  const { Status } = await bucket.send('GetBucketVersioning', {})
  if (Status === 'Enabled') return 'the bucket keeps versions, so what is removed can be brought back'
  return {
    verdict: 'warn',
    text: 'neither versions nor object lock protect the bucket: who has the credentials can remove all of it',
    hint: 'turn on versioning with a lifecycle rule that ends old versions, or use a bucket with object lock and objectLock',
  }
}

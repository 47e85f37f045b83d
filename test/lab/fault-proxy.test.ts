import { type GetObjectCommandInput, ListObjectsV2Command, S3 } from '@aws-sdk/client-s3'
import { afterEach, beforeAll, describe, expect, test } from 'vitest'
import { FaultProxy } from './fault-proxy.ts'
import {
  closeDownload,
  errorAfterOk,
  type Fault,
  ignoreConditions,
  lostAnswer,
  notImplemented,
  resetAtOnce,
  resetDownload,
  resetUpload,
  shortDownload,
  slowDown,
  stallDownload,
  stallUpload,
  wrongClock,
  wrongDownload,
  wrongUpload,
} from './faults.ts'
import { type Gateway, gatewayMissing, sharedGateway } from './gateway.ts'

const BYTES = Buffer.alloc(300_000, 'a line of text\n')

describe.skipIf(gatewayMissing())('the proxy that spoils', () => {
  let gateway: Gateway
  let proxy: FaultProxy
  let client: S3
  let Bucket: string

  beforeAll(async () => {
    gateway = await sharedGateway()
    proxy = await FaultProxy.start(gateway)
    Bucket = await gateway.bucket()
    client = newClient()
    return async () => {
      client.destroy()
      await proxy[Symbol.asyncDispose]()
    }
  })

  const newClient = () =>
    new S3({
      endpoint: proxy.endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      credentials: gateway,
      maxAttempts: 1,
      requestChecksumCalculation: 'WHEN_REQUIRED',
      expectContinueHeader: false,
      requestHandler: { socketTimeout: 1000 },
      logger: { debug() {}, info() {}, warn() {}, error() {} },
    })
  afterEach(() => proxy.reset())

  const put = (Key: string) => client.putObject({ Bucket, Key, Body: BYTES })
  const get = async (Key: string, more: Partial<GetObjectCommandInput> = {}) => {
    const { Body } = await client.getObject({ Bucket, Key, ...more })
    return Buffer.from(await Body!.transformToByteArray())
  }
  const isThere = async (Key: string) =>
    (await gateway.client.send(new ListObjectsV2Command({ Bucket, Prefix: Key }))).KeyCount === 1

  test('passes everything on, and tells what it was', async () => {
    await put('a key/with=signs+')
    expect(BYTES.equals(await get('a key/with=signs+'))).toBe(true)
    expect(await get('a key/with=signs+', { Range: 'bytes=5-9' })).toEqual(BYTES.subarray(5, 10))
    await client.headObject({ Bucket, Key: 'a key/with=signs+' })
    const object = { Bucket, Key: 'parts' }
    const { UploadId } = await client.createMultipartUpload(object)
    const { ETag } = await client.uploadPart({ ...object, UploadId, PartNumber: 1, Body: BYTES })
    await client.listMultipartUploads({ Bucket })
    await client.completeMultipartUpload({
      ...object,
      UploadId,
      MultipartUpload: { Parts: [{ PartNumber: 1, ETag }] },
    })
    expect(BYTES.equals(await get('parts'))).toBe(true)
    await client.deleteObject(object)
    await expect(get('parts')).rejects.toThrow(expect.objectContaining({ name: 'NoSuchKey' }))
    await client.listObjectsV2({ Bucket })
    expect(proxy.operations).toEqual([
      'PutObject',
      'GetObject',
      'GetObject',
      'HeadObject',
      'CreateMultipartUpload',
      'UploadPart',
      'ListMultipartUploads',
      'CompleteMultipartUpload',
      'GetObject',
      'DeleteObject',
      'GetObject',
      'ListObjectsV2',
    ])
    expect(proxy.requests[1]).toMatchObject({ bucket: Bucket, key: 'a key/with=signs+', status: 200 })
    expect(proxy.requests.at(-2)).toMatchObject({ operation: 'GetObject', status: 404 })
  })

  const uploads: [string, Fault, string | RegExp, boolean][] = [
    ['says to slow down', slowDown, 'SlowDown', false],
    ['does not know conditions', notImplemented, 'NotImplemented', false],
    ['has another clock', wrongClock(20 * 60_000), 'RequestTimeTooSkewed', false],
    ['is reset at once', resetAtOnce, /ECONNRESET|EPIPE/, false],
    ['is reset while it gets a body', resetUpload(100_000), /ECONNRESET|EPIPE/, false],
    ['stalls while it gets a body', stallUpload(100_000), 'TimeoutError', false],
    ['gets a wrong byte', wrongUpload(200_000), /BadDigest|XAmzContentSHA256Mismatch/, false],
    ['loses its answer', lostAnswer, /ECONNRESET/, true],
  ]
  test.each(uploads)('a store that %s', async (name, fault, expected, stored) => {
    const injected = proxy.inject({ match: 'PutObject', fault })
    const failure = await put(name).catch((error) => error)
    expect(`${failure.name} ${failure.code ?? ''}`).toMatch(expected)
    expect(injected.met).toBe(1)
    expect(await isThere(name)).toBe(stored)
    // The client has a clock that it sets by what it is told.
    client.destroy()
    client = newClient()
    await put(name)
    expect(BYTES.equals(await get(name))).toBe(true)
  })

  const downloads: [string, Fault, RegExp][] = [
    ['is reset', resetDownload(100_000), /aborted|ECONNRESET/],
    ['is closed', closeDownload(100_000), /aborted|ECONNRESET/],
  ]
  test.each(downloads)('a download that %s', async (_name, fault, expected) => {
    await put('read')
    proxy.inject({ match: ({ method, key }) => method === 'GET' && key === 'read', fault })
    await expect(get('read')).rejects.toThrow(expected)
    expect(BYTES.equals(await get('read'))).toBe(true)
  })

  test('a download that is short, wrong, or stands still', async () => {
    await put('read')
    proxy.inject({ match: 'GetObject', fault: shortDownload(100_000) })
    expect(BYTES.subarray(0, 100_000).equals(await get('read'))).toBe(true)
    proxy.inject({ match: 'GetObject', fault: wrongDownload(200_000) })
    const wrong = Buffer.from(BYTES)
    wrong[200_000]! ^= 1
    expect(wrong.equals(await get('read'))).toBe(true)
    proxy.inject({ match: 'GetObject', fault: stallDownload(100_000) })
    const { Body } = await client.getObject({ Bucket, Key: 'read' })
    let bytes = 0
    await expect(
      (async () => {
        for await (const chunk of Body as AsyncIterable<Buffer>) bytes += chunk.length
      })(),
    ).rejects.toThrow()
    expect(bytes).toBe(100_000)
  })

  test('an error in the body of a good answer', async () => {
    const object = { Bucket, Key: 'parts' }
    const { UploadId } = await client.createMultipartUpload(object)
    const { ETag } = await client.uploadPart({ ...object, UploadId, PartNumber: 1, Body: BYTES })
    proxy.inject({ match: 'CompleteMultipartUpload', fault: errorAfterOk })
    const MultipartUpload = { Parts: [{ PartNumber: 1, ETag }] }
    await expect(client.completeMultipartUpload({ ...object, UploadId, MultipartUpload })).rejects.toThrow(
      expect.objectContaining({ name: 'InternalError' }),
    )
    expect(await isThere('parts')).toBe(false)
  })

  test('a store without conditions, several at once, and a long line', async () => {
    const once = () => client.putObject({ Bucket, Key: 'once', Body: BYTES, IfNoneMatch: '*' })
    await once()
    await expect(once()).rejects.toThrow(expect.objectContaining({ name: 'PreconditionFailed' }))
    const injected = proxy.inject({ match: 'PutObject', times: 2, fault: ignoreConditions })
    await Promise.all([once(), once()])
    expect(injected.met).toBe(2)
    await expect(once()).rejects.toThrow(expect.objectContaining({ name: 'PreconditionFailed' }))
    proxy.latencyMs = 100
    const began = performance.now()
    await client.headObject({ Bucket, Key: 'once' })
    expect(performance.now() - began).toBeGreaterThan(90)
  })
})

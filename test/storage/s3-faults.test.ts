import { createHash, randomBytes } from 'node:crypto'
import { ListMultipartUploadsCommand } from '@aws-sdk/client-s3'
import { afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { S3Storage } from '../../src/storage/s3.ts'
import type { Patience } from '../../src/storage/s3-client.ts'
import { readObject, type S3Address } from '../../src/storage/storage.ts'
import { FaultProxy, type SeenRequest } from '../lab/fault-proxy.ts'
import {
  accessDenied,
  clockAhead,
  closeDownload,
  errorAfterOk,
  expiredToken,
  type Fault,
  ignoreConditions,
  internalError,
  lostAnswer,
  noSuchUpload,
  notImplemented,
  preconditionFailed,
  resetAtOnce,
  resetDownload,
  resetUpload,
  shortDownload,
  slowDown,
  stallDownload,
  stallUpload,
  unmeasuredDownload,
  wrongClock,
  wrongUpload,
} from '../lab/faults.ts'
import { type Gateway, gatewayMissing, sharedGateway } from '../lab/gateway.ts'
import { poll } from '../lab/poll.ts'

const SMALL = randomBytes(300_000)
/** Three parts: two whole ones, and what is left. */
const LARGE = randomBytes(11 * 1024 * 1024)
const PATIENT: Partial<Patience> = { silentMs: 20_000, attempts: 4, firstPauseMs: 1 }
/** For what stands still: it is found out soon, and a machine that is busy has some more attempts. */
const ALERT: Partial<Patience> = { silentMs: 700, attempts: 10, firstPauseMs: 1 }

const ALWAYS = Number.POSITIVE_INFINITY
const sumOf = (bytes: Buffer | undefined) => bytes && createHash('sha256').update(bytes).digest('hex')

describe.skipIf(gatewayMissing())('a bucket behind a line that fails', () => {
  let gateway: Gateway
  let proxy: FaultProxy
  let address: S3Address
  let storage: S3Storage
  let alert: S3Storage
  /** Past the proxy. */
  let truth: S3Storage
  let count = 0

  beforeAll(async () => {
    gateway = await sharedGateway()
    proxy = await FaultProxy.start(gateway)
    return () => proxy[Symbol.asyncDispose]()
  })
  beforeEach(async () => {
    const direct = gateway.address(await gateway.bucket(), { prefix: `of-test-${++count}/` })
    address = { ...direct, endpoint: proxy.endpoint }
    storage = new S3Storage(address, PATIENT)
    alert = new S3Storage(address, ALERT)
    truth = new S3Storage(direct)
  })
  afterEach(() => proxy.reset())

  /** What lies in the bucket, read past the proxy: names and contents. */
  const stored = async () => {
    const objects: Record<string, string | undefined> = {}
    for await (const { key } of truth.list('')) objects[key] = sumOf(await readObject(truth, key))
    return objects
  }
  const unfinished = async () => {
    const command = new ListMultipartUploadsCommand({ Bucket: address.bucket })
    return (await gateway.client.send(command)).Uploads ?? []
  }
  const countOf = (operation: string) => proxy.operations.filter((name) => name === operation).length
  /** In chunks that fit no part. */
  async function* stream(bytes: Buffer) {
    for (let at = 0; at < bytes.length; at += 700_000) yield bytes.subarray(at, at + 700_000)
  }

  const unsent: [string, Fault][] = [
    ['told to slow down', slowDown],
    ['met by an internal error', internalError],
    ['reset before it arrives', resetAtOnce],
    ['reset while it is sent', resetUpload(100_000)],
    ['changed on its way', wrongUpload(200_000)],
  ]
  const unheard: [string, Fault][] = [...unsent, ['done, and its answer lost', lostAnswer]]

  describe('a small object', () => {
    test.each(unheard)('is stored when its write is %s', async (_name, fault) => {
      const injected = proxy.inject({ match: 'PutObject', fault })
      expect(await storage.put('a/small', SMALL)).toBe('stored')
      expect(injected.met).toBe(1)
      expect(await stored()).toEqual({ 'a/small': sumOf(SMALL) })
    })

    test.each(unheard)('that must not be there yet is stored when its write is %s', async (_name, fault) => {
      proxy.inject({ match: 'PutObject', fault })
      expect(await storage.put('a/small', SMALL, { ifAbsent: true })).toBe('stored')
      expect(await storage.put('a/small', LARGE, { ifAbsent: true })).toBe('exists')
      expect(await stored()).toEqual({ 'a/small': sumOf(SMALL) })
    })

    test.each(unheard)(
      "stays another's when a write that must not replace it is %s",
      async (_name, fault) => {
        await truth.put('a/small', SMALL)
        proxy.inject({ match: 'PutObject', fault })
        expect(await storage.put('a/small', Buffer.from('not this'), { ifAbsent: true })).toBe('exists')
        expect(await stored()).toEqual({ 'a/small': sumOf(SMALL) })
      },
    )

    test("is another's that came between an attempt and the next", async () => {
      const overtaken: Fault = async (exchange) => {
        await truth.put('a/small', SMALL)
        exchange.reset()
      }
      proxy.inject({ match: 'PutObject', fault: overtaken })
      expect(await storage.put('a/small', Buffer.from('not this'), { ifAbsent: true })).toBe('exists')
      expect(await stored()).toEqual({ 'a/small': sumOf(SMALL) })
    })

    test('is stored although the store stood still', async () => {
      proxy.inject({ match: 'PutObject', times: 2, fault: stallUpload(100_000) })
      expect(await alert.put('a/small', SMALL, { ifAbsent: true })).toBe('stored')
      expect(countOf('PutObject')).toBeGreaterThanOrEqual(3)
      expect(await stored()).toEqual({ 'a/small': sumOf(SMALL) })
    })

    test('stays as it was when the store never takes the new one', async () => {
      await truth.put('a/small', SMALL)
      proxy.inject({ match: 'PutObject', times: ALWAYS, fault: slowDown })
      await expect(storage.put('a/small', LARGE)).rejects.toMatchObject({
        kind: 'repository',
        message: expect.stringContaining('asked to slow down in each of 4 attempts'),
      })
      expect(countOf('PutObject')).toBe(4)
      expect(await stored()).toEqual({ 'a/small': sumOf(SMALL) })
    })
  })

  describe('an object in parts', () => {
    test.each(unheard)('has only that part sent again that is %s', async (_name, fault) => {
      const isSecond = ({ query }: SeenRequest) => query.get('partNumber') === '2'
      const injected = proxy.inject({ match: isSecond, fault })
      expect(await storage.put('a/large', stream(LARGE))).toBe('stored')
      expect(injected.met).toBe(1)
      expect(countOf('UploadPart')).toBe(4)
      expect(await stored()).toEqual({ 'a/large': sumOf(LARGE) })
      expect(await unfinished()).toEqual([])
    })

    test('is stored although parts stood still', async () => {
      proxy.inject({ match: 'UploadPart', times: 2, fault: stallUpload(1_000_000) })
      expect(await alert.put('a/large', stream(LARGE))).toBe('stored')
      expect(await stored()).toEqual({ 'a/large': sumOf(LARGE) })
      expect(await unfinished()).toEqual([])
    })

    const endings: [string, Fault][] = [
      ['told to slow down', slowDown],
      ['reset before it arrives', resetAtOnce],
      ['done, and its answer lost', lostAnswer],
      ['answered by an error after all', errorAfterOk],
    ]
    test.each(endings)('is stored once when its completion is %s', async (_name, fault) => {
      const injected = proxy.inject({ match: 'CompleteMultipartUpload', fault })
      expect(await storage.put('a/large', stream(LARGE), { ifAbsent: true })).toBe('stored')
      expect(injected.met).toBe(1)
      expect(await storage.put('a/large', stream(LARGE), { ifAbsent: true })).toBe('exists')
      expect(await stored()).toEqual({ 'a/large': sumOf(LARGE) })
      expect(await unfinished()).toEqual([])
    })

    // Ceph says again that it is done, S3 only for a while.
    test.each([
      ['its upload is gone', noSuchUpload],
      ['there is an object already', preconditionFailed],
    ] as const)(
      'is known for its own when it was completed, and the second answer is that %s',
      async (_name, fault) => {
        proxy.inject({ match: 'CompleteMultipartUpload', fault: lostAnswer })
        proxy.inject({ match: 'CompleteMultipartUpload', fault })
        expect(await storage.put('a/large', stream(LARGE), { ifAbsent: true })).toBe('stored')
        expect(countOf('CompleteMultipartUpload')).toBe(2)
        expect(await stored()).toEqual({ 'a/large': sumOf(LARGE) })
      },
    )

    test("does not take another's object for its own when its upload is gone", async () => {
      await truth.put('a/large', SMALL)
      proxy.inject({ match: 'CompleteMultipartUpload', fault: resetAtOnce })
      proxy.inject({ match: 'CompleteMultipartUpload', times: ALWAYS, fault: noSuchUpload })
      await expect(storage.put('a/large', stream(LARGE))).rejects.toMatchObject({ kind: 'repository' })
      expect(await stored()).toEqual({ 'a/large': sumOf(SMALL) })
      expect(await unfinished()).toEqual([])
    })

    const refused = ['UploadPart', 'CompleteMultipartUpload']
    test.each(refused)('is not there, and no part of it, when no %s succeeds', async (match) => {
      await truth.put('a/large', SMALL)
      proxy.inject({ match, times: ALWAYS, fault: match === 'UploadPart' ? slowDown : errorAfterOk })
      proxy.inject({ match: 'AbortMultipartUpload', times: 2, fault: resetAtOnce })
      await expect(storage.put('a/large', stream(LARGE))).rejects.toMatchObject({ kind: 'repository' })
      expect(await stored()).toEqual({ 'a/large': sumOf(SMALL) })
      expect(await unfinished()).toEqual([])
    })

    test('whose first answer was lost is stored, and what that began is swept a day later', async () => {
      proxy.inject({ match: 'CreateMultipartUpload', fault: lostAnswer })
      expect(await storage.put('a/large', stream(LARGE))).toBe('stored')
      expect(await unfinished()).toHaveLength(1)
      expect(await storage.sweep()).toEqual({ objects: 0, bytes: 0 })
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 25 * 3_600_000 })
      try {
        expect(await storage.sweep()).toEqual({ objects: 1, bytes: 0 })
      } finally {
        vi.useRealTimers()
      }
      expect(await unfinished()).toEqual([])
      expect(await stored()).toEqual({ 'a/large': sumOf(LARGE) })
    })

    test('stops the parts on their way when another one has failed', async () => {
      const isPart = (number: string) => (request: SeenRequest) => request.query.get('partNumber') === number
      const silent = proxy.inject({ match: isPart('2'), times: ALWAYS, fault: stallUpload(100_000) })
      const denied: Fault = async (exchange) => {
        await poll(() => silent.met > 0, { what: 'the second part' })
        await accessDenied(exchange)
      }
      proxy.inject({ match: isPart('1'), fault: denied })
      // The silence of the other part would be borne for longer than a test may take.
      const borne = new S3Storage(address, { ...PATIENT, silentMs: 600_000 })
      await expect(borne.put('a/large', stream(LARGE))).rejects.toThrow('lack s3:PutObject')
      expect(await stored()).toEqual({})
      expect(await unfinished()).toEqual([])
    })

    test('leaves no part when it is given up while the store stands still', async () => {
      const injected = proxy.inject({ match: 'UploadPart', times: ALWAYS, fault: stallUpload(100_000) })
      const given = new AbortController()
      const putting = storage.put('a/large', stream(LARGE), { signal: given.signal })
      const outcome = expect(putting).rejects.toThrow('enough')
      await poll(() => injected.met === 2, { what: 'two parts on their way' })
      given.abort(new Error('enough'))
      await outcome
      expect(await stored()).toEqual({})
      expect(await unfinished()).toEqual([])
    })

    test('gets another beginning also where the store copies for nobody else than who has written it', async () => {
      await truth.put('a/large', LARGE)
      const denied = proxy.inject({ match: 'UploadPartCopy', times: ALWAYS, fault: accessDenied })
      const start = randomBytes(333)
      await storage.replaceStart('a/large', 100, start)
      expect(denied.met).toBeGreaterThan(0)
      const whole = Buffer.concat([start, LARGE.subarray(100)])
      expect(await stored()).toEqual({ 'a/large': sumOf(whole) })
    })

    test.each([
      ['told to slow down', 'UploadPartCopy', slowDown],
      ['answered by an error after all', 'UploadPartCopy', errorAfterOk],
      ['told to slow down', 'CompleteMultipartUpload', slowDown],
      ['done, and its answer lost', 'CompleteMultipartUpload', lostAnswer],
    ] as const)('gets another beginning though it is %s (%s)', async (_name, match, fault) => {
      await truth.put('a/large', stream(LARGE))
      const injected = proxy.inject({ match, fault })
      const start = Buffer.from('another beginning')
      await storage.replaceStart('a/large', 100, start)
      expect(injected.met).toBe(1)
      const expected = Buffer.concat([start, LARGE.subarray(100)])
      expect(await stored()).toEqual({ 'a/large': sumOf(expected) })
      expect(await unfinished()).toEqual([])
    })
  })

  describe('reading', () => {
    beforeEach(async () => {
      await truth.put('a/read', SMALL)
      proxy.reset()
    })
    const read = async (from: S3Storage, range?: { offset: number; length: number }) =>
      sumOf(await readObject(from, 'a/read', range && { range }))

    test.each([
      ['reset', resetDownload(100_000)],
      ['closed too early', closeDownload(100_000)],
    ] as const)('goes on where its connection was %s', async (_name, fault) => {
      proxy.inject({ match: 'GetObject', fault })
      expect(await read(storage)).toBe(sumOf(SMALL))
      // How much of what was sent before a reset is received is the network's to say.
      const { headers } = proxy.requests[1]!
      expect(Number(/^bytes=(\d+)-299999$/.exec(headers.range!)![1])).toBeLessThanOrEqual(100_000)
      expect(headers['if-match']).toMatch(/^"\w+"$/)

      proxy.inject({ match: 'GetObject', fault })
      const range = { offset: 50_000, length: 200_000 }
      expect(await read(storage, range)).toBe(sumOf(SMALL.subarray(50_000, 250_000)))
      expect(countOf('GetObject')).toBe(4)
    })

    test('goes on where its connection fell silent', async () => {
      proxy.inject({ match: 'GetObject', times: 2, fault: stallDownload(100_000) })
      expect(await read(alert)).toBe(sumOf(SMALL))
    })

    test('takes as many connections as it needs while each brings something', async () => {
      proxy.inject({ match: 'GetObject', times: ALWAYS, fault: closeDownload(40_000) })
      expect(await read(storage)).toBe(sumOf(SMALL))
      expect(countOf('GetObject')).toBeGreaterThan(4)
    })

    test('ends when none brings anything', async () => {
      proxy.inject({ match: 'GetObject', times: ALWAYS, fault: closeDownload(0) })
      await expect(read(storage)).rejects.toMatchObject({ kind: 'repository' })
      expect(countOf('GetObject')).toBe(4)
    })

    test('does not go on in an object that was replaced meanwhile', async () => {
      const replaced: Fault = async (exchange) => {
        await closeDownload(100_000)(exchange)
        await truth.put('a/read', randomBytes(SMALL.length))
      }
      proxy.inject({ match: 'GetObject', fault: replaced })
      // Until it is replaced, the rest must wait.
      const slow = new S3Storage(address, { ...PATIENT, firstPauseMs: 1000 })
      await expect(read(slow)).rejects.toThrow('was replaced while it was read')
    })

    test.each([
      ['told to slow down', slowDown],
      ['met by an internal error', internalError],
      ['reset at once', resetAtOnce],
      ['done, and its answer lost', lostAnswer],
    ] as const)('and looking, listing and removing: asks again when %s', async (_name, fault) => {
      for (const match of ['GetObject', 'HeadObject', 'ListObjectsV2', 'DeleteObject']) {
        proxy.inject({ match, times: 2, fault })
      }
      expect(await read(storage)).toBe(sumOf(SMALL))
      expect(await storage.stat('a/read')).toMatchObject({ bytes: SMALL.length })
      const keys = await Array.fromAsync(storage.list(''), ({ key }) => key)
      expect(keys).toEqual(['a/read'])
      await storage.remove('a/read')
      expect(proxy.operations.length).toBe(12)
      expect(await stored()).toEqual({})
    })

    test('goes on with a range whose answer was made shorter, by the range that it tells', async () => {
      const injected = proxy.inject({ match: 'GetObject', fault: shortDownload(1000) })
      const range = { offset: 10, length: 5000 }
      const read = await readObject(storage, 'a/read', { range })
      expect(read?.equals(SMALL.subarray(10, 5010))).toBe(true)
      expect(injected.met).toBe(1)
    })

    test('reads an answer that does not tell its length', async () => {
      const injected = proxy.inject({ match: 'GetObject', fault: unmeasuredDownload })
      expect((await readObject(storage, 'a/read'))?.equals(SMALL)).toBe(true)
      expect(injected.met).toBe(1)
    })

    test.each([
      ['reset', resetDownload(300)],
      ['closed too early', closeDownload(300)],
      ['shorter than it was', shortDownload(300)],
    ] as const)('a list asks again when its answer is %s', async (_name, fault) => {
      await truth.put('b/last', SMALL)
      const injected = proxy.inject({ match: 'ListObjectsV2', fault })
      const keys = await Array.fromAsync(storage.list(''), ({ key }) => key)
      expect(keys).toEqual(['a/read', 'b/last'])
      expect(injected.met).toBe(1)
    })

    test('never takes an error for an absence', async () => {
      for (const match of ['GetObject', 'HeadObject', 'ListObjectsV2']) {
        proxy.inject({ match, times: ALWAYS, fault: internalError })
      }
      const isFault = { kind: 'repository' }
      await expect(storage.get('a/absent')).rejects.toMatchObject(isFault)
      await expect(storage.stat('a/absent')).rejects.toMatchObject(isFault)
      await expect(Array.fromAsync(storage.list('absent/'))).rejects.toMatchObject(isFault)
      await expect(Array.fromAsync(storage.folders('absent/'))).rejects.toMatchObject(isFault)
    })
  })

  describe('what does not pass', () => {
    test.each([
      ['an expired token', expiredToken, 'the session token has expired', /renew the credentials/],
      ['no permission', accessDenied, 'lack s3:PutObject', /policy/],
      ['a store that knows no conditions', notImplemented, 'does not have', /conditionalWrites: false/],
    ] as const)('is asked once, and told: %s', async (_name, fault, message, hint) => {
      proxy.inject({ match: 'PutObject', times: ALWAYS, fault })
      await expect(storage.put('a/small', SMALL, { ifAbsent: true })).rejects.toMatchObject({
        kind: 'repository',
        message: expect.stringContaining(message),
        hint: expect.stringMatching(hint),
      })
      expect(proxy.operations).toEqual(['PutObject'])
      expect(await stored()).toEqual({})
    })

    test('is learned: the clock of a store whose time is another', async () => {
      proxy.inject({ match: () => true, times: ALWAYS, fault: clockAhead(20 * 60_000) })
      expect(await storage.put('a/small', SMALL, { ifAbsent: true })).toBe('stored')
      expect(await storage.put('a/large', stream(LARGE))).toBe('stored')
      expect(sumOf(await readObject(storage, 'a/small'))).toBe(sumOf(SMALL))
      expect(proxy.requests.filter(({ status }) => status === 403)).toHaveLength(1)
      // An answer to HEAD tells no reason.
      expect(await new S3Storage(address, PATIENT).stat('a/small')).toMatchObject({ bytes: SMALL.length })
      expect(proxy.requests.filter(({ status }) => status === 403)).toHaveLength(2)
      expect(await stored()).toEqual({ 'a/large': sumOf(LARGE), 'a/small': sumOf(SMALL) })
    })

    test('is told: a clock that no answer sets right', async () => {
      proxy.inject({ match: 'PutObject', times: ALWAYS, fault: wrongClock(20 * 60_000) })
      await expect(storage.put('a/small', SMALL)).rejects.toMatchObject({
        kind: 'repository',
        message: expect.stringContaining('ours is 20 minutes behind'),
      })
      expect(countOf('PutObject')).toBeLessThanOrEqual(4)
    })
  })

  describe('a store without conditions', () => {
    beforeEach(() => {
      proxy.inject({
        match: ({ headers }) => headers['if-none-match'] !== undefined,
        times: ALWAYS,
        fault: ignoreConditions,
      })
    })

    test('is found out', async () => {
      const findings = await Array.fromAsync(storage.probe())
      const finding = findings.find(({ subject }) => subject === 'write on a condition')
      expect(finding).toMatchObject({
        verdict: 'fail',
        hint: expect.stringContaining('conditionalWrites: false'),
      })
      expect(await unfinished()).toEqual([])
      expect(await stored()).toEqual({})
    })

    test('has stored what was written last, when two looked at the same moment', async () => {
      const looking = new S3Storage({ ...address, conditionalWrites: false }, PATIENT)
      const overwritten: Fault = (exchange) =>
        exchange.pass({
          async *download(bytes) {
            await truth.put('a/small', SMALL)
            yield* bytes
          },
        })
      proxy.inject({ match: 'PutObject', fault: overwritten })
      expect(await looking.put('a/small', Buffer.from('not this'), { ifAbsent: true })).toBe('exists')
      expect(await stored()).toEqual({ 'a/small': sumOf(SMALL) })
    })

    test.each(unheard)(
      'is looked at first, and answers are checked, when a write is %s',
      async (_name, fault) => {
        const looking = new S3Storage({ ...address, conditionalWrites: false }, PATIENT)
        proxy.inject({ match: 'PutObject', fault })
        expect(await looking.put('a/small', SMALL, { ifAbsent: true })).toBe('stored')
        expect(await looking.put('a/small', LARGE, { ifAbsent: true })).toBe('exists')
        expect(proxy.requests.some(({ headers }) => headers['if-none-match'] !== undefined)).toBe(false)
        expect(await stored()).toEqual({ 'a/small': sumOf(SMALL) })
      },
    )
  })
})

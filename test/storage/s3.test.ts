import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { request } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import {
  CreateMultipartUploadCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectVersionsCommand,
  PutObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { openStorage } from '../../src/storage/open.ts'
import { S3Storage } from '../../src/storage/s3.ts'
import { readObject, type S3Address, type Source, type Storage } from '../../src/storage/storage.ts'
import { FaultProxy } from '../lab/fault-proxy.ts'
import type { Fault } from '../lab/faults.ts'
import { Gateway, gatewayMissing } from '../lab/gateway.ts'
import { Scratch } from '../lab/scratch.ts'
import { storageContract } from './contract.ts'

const MEBIBYTE = 1024 * 1024
const DAY_MS = 24 * 3_600_000

let gateway: Gateway
let bucket: string
let lockable: string
let count = 0
const missing = gatewayMissing()
beforeEach((context) => void (missing !== undefined && context.skip(missing)))
beforeAll(async () => {
  if (missing !== undefined) return
  gateway = await Gateway.start()
  bucket = await gateway.bucket()
  lockable = await gateway.bucket({ objectLock: true })
})
afterAll(() => gateway?.[Symbol.asyncDispose]())

/** A new place in the shared bucket, and a storage there. */
function opened(overrides: Partial<S3Address> = {}): { storage: S3Storage; prefix: string } {
  const prefix = `repository-${++count}/`
  return { storage: new S3Storage(gateway.address(bucket, { prefix, ...overrides })), prefix }
}

const lock = { mode: 'GOVERNANCE', days: 1 } as const
const openedLocking = () => opened({ bucket: lockable, objectLock: lock })

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

async function unfinished(Prefix: string): Promise<unknown[]> {
  const { Uploads = [] } = await gateway.client.send(
    new ListMultipartUploadsCommand({ Bucket: bucket, Prefix }),
  )
  return Uploads
}

function* mebibytes(many: number): Iterable<Buffer> {
  const buffer = Buffer.alloc(MEBIBYTE)
  for (let number = 0; number < many; number++) yield buffer.fill(number)
}

storageContract('S3Storage', async () => {
  const { storage } = opened()
  return { storage, other: new S3Storage(storage.address), dispose: async () => {} }
})

test('is told as a URL, and opened by its address', () => {
  const { storage, prefix } = opened({ prefix: 'a/b/' })
  expect(prefix).not.toBe('a/b/')
  expect(storage.location).toBe(`s3://${bucket}/a/b`)
  expect(opened({ prefix: '' }).storage.location).toBe(`s3://${bucket}`)
  expect(openStorage(storage.address)).toBeInstanceOf(S3Storage)
})

describe('a stream of unknown length', () => {
  test('is stored in bounded memory', async () => {
    const { storage } = opened()
    const before = process.memoryUsage().arrayBuffers
    let most = 0
    const source = function* () {
      for (const chunk of mebibytes(300)) {
        most = Math.max(most, process.memoryUsage().arrayBuffers - before)
        yield chunk
      }
    }
    await storage.put('large', source())
    expect((await storage.stat('large'))?.bytes).toBe(300 * MEBIBYTE)
    // Three parts of 5 MiB, and what the garbage collector has not come to.
    expect(most).toBeLessThan(100 * MEBIBYTE)
  })

  const failing = function* () {
    yield* mebibytes(12)
    throw new Error('the disk failed')
  }
  const aborting = (abort: AbortController) =>
    function* () {
      yield* mebibytes(12)
      abort.abort(new Error('stopped'))
      yield* mebibytes(12)
    }
  test('leaves no parts when its source fails, or when it is aborted, or when there is one already', async () => {
    const { storage, prefix } = opened()
    await expect(storage.put('a', failing())).rejects.toThrow('the disk failed')
    const abort = new AbortController()
    const putting = storage.put('a', aborting(abort)(), { signal: abort.signal })
    await expect(putting).rejects.toThrow('stopped')
    const taken = function* () {
      yield* mebibytes(12)
    }
    await storage.put('b', Buffer.from('first'))
    expect(await storage.put('b', taken(), { ifAbsent: true })).toBe('exists')
    expect(await unfinished(prefix)).toEqual([])
    expect(await all(storage.names(''))).toEqual(['b'])
  })

  test('that came second while it was on its way leaves the first one, and no parts', async () => {
    const { storage, prefix } = opened()
    const source = async function* () {
      yield* mebibytes(12)
      await storage.put('a', Buffer.from('first'), { ifAbsent: true })
    }
    expect(await storage.put('a', source(), { ifAbsent: true })).toBe('exists')
    expect((await readObject(storage, 'a'))?.toString()).toBe('first')
    expect(await unfinished(prefix)).toEqual([])
  })
})

test('sweep ends uploads that are older than a day, below its own prefix, and no others', async () => {
  const { storage, prefix } = opened()
  const begin = async (Key: string) => {
    const { UploadId } = await gateway.client.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key }))
    const part = { Bucket: bucket, Key, UploadId, PartNumber: 1, Body: Buffer.alloc(1234) }
    await gateway.client.send(new UploadPartCommand(part))
  }
  await begin(`${prefix}a/left`)
  await begin(`other-${prefix}a/left`)
  expect(await storage.sweep()).toEqual({ objects: 0, bytes: 0 })
  expect(await unfinished(prefix)).toHaveLength(1)
  // The store is a day behind, which its answers tell: the requests are signed by its clock.
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + DAY_MS + 60_000 })
  try {
    expect(await new S3Storage(storage.address).sweep()).toEqual({ objects: 1, bytes: 1234 })
  } finally {
    vi.useRealTimers()
  }
  expect(await unfinished(prefix)).toEqual([])
  expect(await unfinished(`other-${prefix}`)).toHaveLength(1)
})

test('what is no key is neither listed nor named', async () => {
  const { storage, prefix } = opened()
  for (const name of ['a b', 'a/', 'a/b', '.hidden', 'c//d', 'c/../d']) {
    await gateway.client.send(new PutObjectCommand({ Bucket: bucket, Key: prefix + name, Body: 'x' }))
  }
  expect((await all(storage.list(''))).map(({ key }) => key)).toEqual(['a/b'])
  expect(await all(storage.names(''))).toEqual([])
  expect(await all(storage.names('a/'))).toEqual(['b'])
})

test('an object has its tags, and an id', async () => {
  const tags = { team: 'data base', 'a&b': 'c=d+e' }
  const { storage, prefix } = opened({ storageClass: 'STANDARD', tags })
  await storage.put('key', Buffer.from('x'), { immutable: true })
  const where = { Bucket: bucket, Key: `${prefix}key` }
  const { TagSet = [] } = await gateway.client.send(new GetObjectTaggingCommand(where))
  expect(Object.fromEntries(TagSet.map(({ Key, Value }) => [Key, Value]))).toEqual(tags)
  const { Metadata } = await gateway.client.send(new HeadObjectCommand(where))
  expect(Metadata).toEqual({ 'pgrecall-id': expect.stringMatching(/^[0-9a-f]{32}$/) })
})

test('the storage class is that of what never changes', async () => {
  const { storage } = opened({ storageClass: 'NO_SUCH_CLASS' })
  await storage.put('lock.json', Buffer.from('x'))
  await expect(storage.put('backup', Buffer.from('x'), { immutable: true })).rejects.toMatchObject({
    kind: 'repository',
    hint: expect.stringContaining('NO_SUCH_CLASS'),
  })
})

describe('without conditional writes', () => {
  test('an existing object is left as it is, and another is stored', async () => {
    const { storage } = opened({ conditionalWrites: false })
    for (const source of [(): Source => Buffer.from('x'), (): Source => mebibytes(12)]) {
      const key = `key-${++count}`
      expect(await storage.put(key, source(), { ifAbsent: true })).toBe('stored')
      expect(await storage.put(key, Buffer.from('second'), { ifAbsent: true })).toBe('exists')
      expect(await storage.put(key, source(), { ifAbsent: true })).toBe('exists')
    }
  })
})

describe('object lock', () => {
  const sources: [string, () => Source][] = [
    ['whole', () => Buffer.from('x')],
    ['in parts', () => mebibytes(7)],
  ]
  test.each(sources)('keeps what was stored %s as immutable', async (_how, source) => {
    const { storage } = openedLocking()
    await storage.put('a/key', source(), { immutable: true })
    const { lockedUntil } = (await storage.stat('a/key'))!
    expect(Math.abs(lockedUntil!.getTime() - Date.now() - DAY_MS)).toBeLessThan(600_000)
    await expect(storage.remove('a/key')).rejects.toMatchObject({
      kind: 'refused',
      message: `cannot remove ${storage.location}/a/key: the store keeps it locked until ${lockedUntil!.toISOString()}`,
    })
    expect(await storage.stat('a/key')).toBeDefined()
  })

  test('is extended, and never shortened', async () => {
    const { storage } = openedLocking()
    await storage.put('a/key', Buffer.from('x'), { immutable: true })
    const later = new Date(Math.ceil(Date.now() / 1000) * 1000 + 3 * DAY_MS)
    await storage.lockUntil('a/key', later)
    expect((await storage.stat('a/key'))?.lockedUntil).toEqual(later)
    await storage.lockUntil('a/key', new Date(Date.now() + 2 * DAY_MS))
    expect((await storage.stat('a/key'))?.lockedUntil).toEqual(later)
    await expect(storage.lockUntil('a/absent', later)).rejects.toMatchObject({ kind: 'repository' })
  })

  test.each([
    ['small', 100],
    ['large', 12 * MEBIBYTE],
  ])('stays with a %s object that gets another beginning', async (_size, bytes) => {
    const { storage } = openedLocking()
    await storage.put('a/key', randomBytes(bytes), { immutable: true })
    const before = (await storage.stat('a/key'))!
    await storage.replaceStart('a/key', 10, randomBytes(20))
    expect(await storage.stat('a/key')).toMatchObject({ bytes: bytes + 10, lockedUntil: before.lockedUntil })
  })

  test('is not for what changes: that is removed for good, and hidden when there were others of its name', async () => {
    const { storage, prefix } = openedLocking()
    const versions = async (key: string) =>
      (await gateway.client.send(new ListObjectVersionsCommand({ Bucket: lockable, Prefix: prefix + key })))
        .Versions
    await storage.put('once', Buffer.from('x'))
    await storage.remove('once')
    expect(await versions('once')).toBeUndefined()
    await storage.put('twice', Buffer.from('1'))
    await storage.put('twice', Buffer.from('2'))
    await storage.remove('twice')
    expect(await storage.stat('twice')).toBeUndefined()
    expect(await all(storage.list(''))).toEqual([])
  })

  test('that the bucket does not have is told', async () => {
    const { storage } = opened({ objectLock: lock })
    await expect(storage.put('a', Buffer.from('x'), { immutable: true })).rejects.toMatchObject({
      kind: 'repository',
      hint: expect.stringContaining('objectLock'),
    })
  })
})

describe('errors are sentences', () => {
  const output = vi.spyOn(console, 'warn')
  afterEach(() => expect(output).not.toHaveBeenCalled())

  const attempts: [string, (storage: Storage) => Promise<unknown>][] = [
    ['put', (storage) => storage.put('a', Buffer.from('x'))],
    ['put a stream', (storage) => storage.put('a', mebibytes(6))],
    ['get', (storage) => storage.get('a')],
    ['get nothing', (storage) => storage.get('a', { range: { offset: 0, length: 0 } })],
    ['stat', (storage) => storage.stat('a')],
    ['list', (storage) => all(storage.list(''))],
    ['folders', (storage) => all(storage.folders(''))],
    ['names', (storage) => all(storage.names(''))],
    ['remove', (storage) => storage.remove('a')],
    ['replaceStart', (storage) => storage.replaceStart('a', 1, Buffer.from('x'))],
  ]

  test.each(attempts)('of a bucket that is not there: %s', async (_what, attempt) => {
    const { storage } = opened({ bucket: 'no-such-bucket' })
    await expect(attempt(storage)).rejects.toMatchObject({
      kind: 'repository',
      message: expect.stringMatching(
        /^cannot \w+ s3:\/\/no-such-bucket\/.*: there is no bucket "no-such-bucket"$/,
      ),
      hint: expect.stringContaining('endpoint'),
    })
  })

  test.each(attempts)('of a secret that is wrong, and it is not told: %s', async (_what, attempt) => {
    const { credentialsFile } = await gateway.credentials(gateway.accessKeyId, 'a-wrong-secret')
    const failure = await attempt(opened({ credentialsFile }).storage).catch((error: unknown) => error)
    expect(failure).toMatchObject({
      kind: 'repository',
      message: expect.stringContaining('the secret access key does not fit the access key id'),
    })
    expect(JSON.stringify(failure)).not.toContain('a-wrong-secret')
  })

  test('of an access key id that is not known', async () => {
    const { credentialsFile } = await gateway.credentials('nobody', 'x')
    await expect(opened({ credentialsFile }).storage.stat('a')).rejects.toMatchObject({
      message: expect.stringContaining('the store does not know the access key id'),
    })
  })

  test('of credentials that are not there', async () => {
    const { credentialsFile } = gateway
    const { storage } = opened({ profile: 'absent' })
    await expect(storage.stat('a')).rejects.toMatchObject({
      message: expect.stringContaining(
        `no credentials of the profile "absent" were found in ${credentialsFile}`,
      ),
    })
    const nowhere = opened({ credentialsFile: '/nonexistent/credentials' }).storage
    await expect(nowhere.get('a')).rejects.toMatchObject({
      kind: 'repository',
      message: expect.stringContaining('/nonexistent/credentials'),
    })
  })

  test.each([
    ['s3:PutObject', (storage: Storage) => storage.put('a', Buffer.from('x'))],
    ['s3:GetObject', (storage: Storage) => storage.get('a')],
    ['s3:ListBucket', (storage: Storage) => all(storage.list(''))],
    ['s3:DeleteObject', (storage: Storage) => storage.remove('a')],
  ])('of a permission that is missing: %s', async (permission, attempt) => {
    const { storage, prefix } = opened()
    await storage.put('a', Buffer.from('x'))
    const { credentialsFile } = await gateway.user(bucket, ['s3:GetBucketVersioning'])
    await expect(attempt(opened({ credentialsFile, prefix }).storage)).rejects.toMatchObject({
      kind: 'repository',
      message: expect.stringContaining(`access denied; the credentials lack ${permission}`),
    })
  })

  test('of a store that is not there', async () => {
    const address = gateway.address(bucket, { endpoint: 'http://127.0.0.1:1' })
    const storage = new S3Storage(address, { attempts: 2, firstPauseMs: 1 })
    await expect(storage.put('a', Buffer.from('x'))).rejects.toMatchObject({
      kind: 'repository',
      message: `cannot write s3://${bucket}/a: nothing answers at http://127.0.0.1:1 (connection refused)`,
    })
    const unknown = opened({ endpoint: 'http://store.invalid' }).storage
    await expect(unknown.stat('a')).rejects.toMatchObject({
      message: expect.stringContaining('the name of http://store.invalid cannot be resolved'),
    })
  })

  test.each([
    [
      'another region',
      301,
      'PermanentRedirect',
      'use the endpoint that belongs to the bucket',
      'the bucket is not in the region "us-east-1" but in "eu-west-3"',
      'set region: eu-west-3',
    ],
    [
      'another region, by its signature',
      400,
      'AuthorizationHeaderMalformed',
      "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-3'",
      'the bucket is not in the region "us-east-1" but in "eu-west-3"',
      'set region: eu-west-3',
    ],
    [
      'a key that may not be used',
      403,
      'AccessDenied',
      'User is not authorized to perform: kms:GenerateDataKey',
      'the key key-1 may not be used by these credentials',
      'kms:GenerateDataKey',
    ],
    [
      'a storage class that it does not have',
      400,
      'InvalidStorageClass',
      'The storage class you specified is not valid',
      'the store has no storage class "COLD"',
      'storageClass',
    ],
    [
      'what nobody has heard of',
      400,
      'NoSuchThing',
      'Whatever it is.',
      'NoSuchThing: Whatever it is.',
      undefined,
    ],
  ])('of a store that tells of %s', async (_what, status, code, text, reason, hint) => {
    await using proxy = await FaultProxy.start(gateway)
    const fault: Fault = (exchange) => {
      exchange.response.setHeader('x-amz-bucket-region', 'eu-west-3')
      return exchange.refuse(status, code, text)
    }
    proxy.inject({ match: () => true, times: 100, fault })
    const aws = { serverSideEncryption: 'aws:kms', kmsKeyId: 'key-1', storageClass: 'COLD' } as const
    const { storage } = opened({ endpoint: proxy.endpoint, ...aws })
    for (const attempt of [() => storage.put('a', Buffer.from('x')), () => storage.stat('a')]) {
      await expect(attempt()).rejects.toMatchObject({
        kind: 'repository',
        message: expect.stringContaining(reason),
        hint: hint === undefined ? undefined : expect.stringContaining(hint),
      })
    }
    expect(proxy.operations).toEqual(['PutObject', 'HeadObject', 'GetObject'])
  })

  test('of certificates that cannot be read, and of a port that speaks no TLS', async () => {
    await expect(opened({ caFile: '/nonexistent/ca.pem' }).storage.stat('a')).rejects.toMatchObject({
      kind: 'config',
      message: expect.stringContaining('/nonexistent/ca.pem'),
    })
    const endpoint = gateway.endpoint.replace('http:', 'https:')
    await expect(opened({ endpoint }).storage.stat('a')).rejects.toMatchObject({
      kind: 'repository',
      hint: expect.stringContaining('http or https'),
    })
  })
})

test.each([
  ['small', 1000],
  ['large', 12 * MEBIBYTE],
])(
  'a %s object that is replaced while it gets another beginning is left to who replaced it',
  async (_size, bytes) => {
    await using proxy = await FaultProxy.start(gateway)
    const { storage, prefix } = opened({ endpoint: proxy.endpoint })
    const other = opened({ prefix }).storage
    await other.put('a', randomBytes(bytes))
    const replaced: Fault = async (exchange) => {
      await other.put('a', Buffer.from('of another'))
      await exchange.pass()
    }
    proxy.inject({ match: bytes === 1000 ? 'GetObject' : 'UploadPartCopy', fault: replaced })
    await expect(storage.replaceStart('a', 10, randomBytes(20))).rejects.toMatchObject({ kind: 'repository' })
    expect((await readObject(other, 'a'))?.toString()).toBe('of another')
    expect(await unfinished(prefix)).toEqual([])
  },
)

test('a host whose clock is wrong is answered all the same, and asks no more often than others', async () => {
  await using proxy = await FaultProxy.start(gateway)
  const { storage } = opened({ endpoint: proxy.endpoint })
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 20 * 60_000 })
  try {
    await storage.put('a', Buffer.from('x'))
    expect(proxy.operations).toEqual(['PutObject', 'PutObject'])
    proxy.reset()
    // By a little less than before, as on any host whose time goes on.
    vi.setSystemTime(Date.now() + 100)
    expect(await storage.stat('absent')).toBeUndefined()
    expect(await storage.put('a', Buffer.from('y'), { ifAbsent: true })).toBe('exists')
    expect(proxy.operations).toEqual(['HeadObject', 'PutObject'])
  } finally {
    vi.useRealTimers()
  }
})

test('a certificate is trusted when its authority is in caFile, and a sentence names caFile otherwise', async () => {
  await using scratch = await Scratch.create('tls')
  const [key, cert] = [join(scratch.path, 'key.pem'), join(scratch.path, 'cert.pem')]
  const subject = ['-subj', '/CN=store', '-addext', 'subjectAltName=IP:127.0.0.1']
  const made = ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-keyout', key, '-out', cert]
  execFileSync('openssl', [...made, ...subject], { stdio: 'ignore' })
  const { hostname, port } = new URL(gateway.endpoint)
  const server = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (from, to) => {
    const { method, url: path, headers } = from
    const onward = request({ hostname, port, method, path, headers }, (answer) => {
      to.writeHead(answer.statusCode!, answer.headers)
      answer.pipe(to)
    })
    from.pipe(onward)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    const endpoint = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
    await expect(opened({ endpoint }).storage.stat('a')).rejects.toMatchObject({
      kind: 'repository',
      message: expect.stringContaining(`the certificate of ${endpoint} is not trusted`),
      hint: expect.stringContaining('caFile'),
    })
    const { storage } = opened({ endpoint, caFile: cert })
    await storage.put('a/large', mebibytes(7))
    expect((await readObject(storage, 'a/large'))?.length).toBe(7 * MEBIBYTE)
  } finally {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  }
})

describe('credentials', () => {
  afterEach(() => vi.unstubAllEnvs())

  test("come from the environment, or from a profile of the SDK's own file, and nothing is said on the console", async () => {
    const output = vi.spyOn(console, 'warn')
    vi.stubEnv('AWS_ACCESS_KEY_ID', gateway.accessKeyId)
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', gateway.secretAccessKey)
    expect(await opened({ credentialsFile: undefined }).storage.stat('a')).toBeUndefined()
    vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', gateway.credentialsFile)
    expect(await opened({ credentialsFile: undefined, profile: 'default' }).storage.stat('a')).toBeUndefined()
    expect(output).not.toHaveBeenCalled()
  })
})

describe('a probe', () => {
  const verdicts = async (storage: Storage) =>
    Object.fromEntries((await all(storage.probe())).map(({ subject, verdict }) => [subject, verdict]))
  const WRITING = [
    's3:PutObject',
    's3:GetObject',
    's3:ListBucket',
    's3:AbortMultipartUpload',
    's3:ListBucketMultipartUploads',
    's3:GetBucketVersioning',
    's3:GetBucketObjectLockConfiguration',
  ]
  const asUser = async (actions: string[]) =>
    opened({ credentialsFile: (await gateway.user(bucket, actions)).credentialsFile }).storage

  test('warns where nothing protects the bucket, and passes where versions or locks do', async () => {
    expect(await verdicts(opened().storage)).toMatchObject({ protection: 'warn', 'remove an object': 'pass' })
    const versioned = await gateway.bucket({ versioning: true })
    expect(await verdicts(opened({ bucket: versioned }).storage)).toMatchObject({ protection: 'pass' })
    const { storage } = openedLocking()
    const found = await verdicts(storage)
    expect(found).toHaveProperty('lock an object')
    // Ceph 16 looks at no condition in a bucket with versions, which is what a probe is for.
    delete found['write on a condition']
    expect(new Set(Object.values(found))).toEqual(new Set(['pass']))
    expect(await all(storage.names(''))).toEqual([])
  })

  test('fails where object lock is configured and the bucket has none', async () => {
    const { storage } = opened({ objectLock: lock })
    expect(await verdicts(storage)).toMatchObject({ protection: 'fail', 'lock an object': 'fail' })
  })

  test('lets a host pass that may write and never remove, with a warning', async () => {
    const found = await all((await asUser(WRITING)).probe())
    expect(found.filter(({ verdict }) => verdict === 'fail')).toEqual([])
    expect(found).toContainEqual(
      expect.objectContaining({
        subject: 'remove an object',
        verdict: 'warn',
        text: expect.stringContaining('s3:DeleteObject'),
        hint: expect.stringContaining('retention'),
      }),
    )
  })

  test.each([
    ['list objects', 's3:ListBucket'],
    ['list unfinished uploads', 's3:ListBucketMultipartUploads'],
    ['write an object', 's3:PutObject'],
  ])('names the permission that is missing: %s', async (subject, permission) => {
    const found = await all((await asUser(WRITING.filter((action) => action !== permission))).probe())
    const [finding] = found.filter((one) => one.subject === subject)
    expect(finding?.verdict).toBe(subject === 'list unfinished uploads' ? 'warn' : 'fail')
    expect(finding?.text).toContain(permission)
  })

  test('warns where conditional writes are turned off', async () => {
    const { storage } = opened({ conditionalWrites: false })
    expect(await verdicts(storage)).toMatchObject({ 'write on a condition': 'warn' })
  })

  test.each([
    [2, 'warn'],
    [20, 'fail'],
  ])('compares the clocks: %d minutes off', async (minutes, verdict) => {
    const address = opened().storage.address
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + minutes * 60_000 })
    try {
      expect(await verdicts(new S3Storage(address))).toMatchObject({ clock: verdict })
    } finally {
      vi.useRealTimers()
    }
  })
})

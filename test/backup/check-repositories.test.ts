import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { newIdentity } from '../../src/archive/age.ts'
import { gatewayMissing, sharedGateway } from '../lab/gateway.ts'
import { Lab } from '../lab/lab.ts'
import { requireServer } from '../lab/programs.ts'
import { answerOf } from './commands.ts'

interface Finding {
  subject: string
  verdict: 'pass' | 'warn' | 'fail'
  text: string
  hint?: string
}

const ALL = ['s3:ListBucket', 's3:GetObject', 's3:PutObject', 's3:DeleteObject', 's3:AbortMultipartUpload']
const BUCKET = [
  's3:ListBucketMultipartUploads',
  's3:GetBucketVersioning',
  's3:GetBucketObjectLockConfiguration',
]

describe.skipIf(gatewayMissing())('check of a repository in a bucket', () => {
  let lab: Lab
  beforeAll(async () => {
    lab = await Lab.create({ archive: false, repositories: { offsite: 's3' } })
  })
  afterAll(() => lab?.[Symbol.asyncDispose]())
  beforeEach((context) => void requireServer(context))

  /** What is said of the repository when its configuration is changed so. */
  async function check(changes: Record<string, unknown>) {
    await lab.writeConfiguration(({ repositories }) => void Object.assign(repositories.offsite!, changes))
    const { stdout, exitCode } = await lab.pgrecall(['check', '--json'])
    const findings = JSON.parse(stdout) as Finding[]
    const found = findings.filter(({ subject }) => /^(?:repository|keys of) "offsite"$/.test(subject))
    const told = found
      .filter(({ verdict }) => verdict !== 'pass')
      .map(({ verdict, text }) => `${verdict} ${text}`)
    return { found, told, findings, exitCode }
  }

  /** The credentials of a user who may do all but this in the bucket. */
  async function without(...actions: string[]) {
    const gateway = await sharedGateway()
    const bucket = await gateway.bucket({ versioning: true })
    const { credentialsFile } = await gateway.user(
      bucket,
      [...ALL, ...BUCKET].filter((action) => !actions.includes(action)),
    )
    return { bucket, credentialsFile, conditionalWrites: false }
  }

  test('what works is one line; what is to be known has lines of its own', async () => {
    const { found, told } = await check({})
    expect(found[0]).toMatchObject({
      subject: 'repository "offsite"',
      verdict: 'pass',
      text: expect.stringMatching(/^s3:\/\/lab-\S+, tried with success: write an object, .*remove an object/),
    })
    expect(told).toEqual([
      expect.stringMatching(/^warn protection: neither versions nor object lock protect the bucket/),
    ])
  })

  test.each([
    ['s3:PutObject', 'fail', /^fail write an object: cannot write .*the credentials lack s3:PutObject$/],
    ['s3:ListBucket', 'fail', /^fail list objects: cannot list .*the credentials lack s3:ListBucket$/],
    [
      's3:DeleteObject',
      'warn',
      /^warn remove an object: cannot remove .*the credentials lack s3:DeleteObject$/,
    ],
    [
      's3:ListBucketMultipartUploads',
      'warn',
      /^warn list unfinished uploads: .*the credentials lack s3:ListBucketMultipartUploads$/,
    ],
  ])('a user without %s: %s, by name', async (action, verdict, text) => {
    const { told, exitCode } = await check(await without(action))
    expect(told).toContainEqual(expect.stringMatching(text))
    if (verdict === 'fail') expect(exitCode).toBe(12)
    expect(told.filter((line) => line.startsWith('fail')).length > 0).toBe(verdict === 'fail')
  })

  test('a bucket that is not there, and keys that do not fit', async () => {
    expect((await check({ bucket: 'there-is-none' })).told).toEqual([
      expect.stringMatching(/^fail write an object: cannot write .*: there is no bucket "there-is-none"$/),
    ])
    const gateway = await sharedGateway()
    const { credentialsFile } = await gateway.credentials(gateway.accessKeyId, 'wrong')
    const { told, found } = await check({ credentialsFile })
    expect(told).toEqual([expect.stringMatching(/: the secret access key does not fit the access key id$/)])
    expect(found[0]!.hint).toMatch(/look at the credentials/)
  })

  test('object lock where the bucket has none', async () => {
    const objectLock = { mode: 'GOVERNANCE', days: 1 }
    const { told, exitCode } = await check({ objectLock })
    expect(told).toContainEqual('fail protection: objectLock is configured, and the bucket has none')
    expect(exitCode).toBe(12)
  })

  test('a store that ignores conditions', async () => {
    const bucket = await (await sharedGateway()).bucket({ versioning: true })
    expect((await check({ bucket })).told).toEqual([
      expect.stringMatching(/^fail write on a condition: the store ignores "If-None-Match"/),
    ])
  })

  test('an optional one fails as a warning, and nothing waits for it', async () => {
    const { bucket: _bucket, ...rest } = lab.repositories.offsite!.configuration
    await using other = await Lab.create({
      configure: ({ repositories, clusters }) => {
        repositories.offsite = { ...rest, bucket: 'there-is-none' }
        clusters.main!.repositories = ['local', { name: 'offsite', required: false }]
      },
    })
    const findings = await answerOf<Finding[]>(other, ['check'])
    expect(
      findings.filter(({ verdict, subject }) => verdict !== 'pass' && subject.includes('offsite')),
    ).toEqual([
      expect.objectContaining({
        subject: 'repository "offsite"',
        verdict: 'warn',
        text: expect.stringContaining('there is no bucket "there-is-none"'),
      }),
    ])
    expect(findings.at(-1)).toMatchObject({ subject: 'archive', verdict: 'pass' })
  })

  test('keys: who can read, who can only write, and a key that does not fit', async () => {
    const [ours, other] = [await newIdentity(), await newIdentity()]
    const identityFile = await lab.scratch.file('ours.txt', `${ours.identity}\n`)
    const keys = async (encryption: object) =>
      (await check({ encryption })).findings.find(({ subject }) => subject === 'keys of "offsite"')
    expect(await keys({ recipients: [ours.recipient, other.recipient], identityFile })).toMatchObject({
      verdict: 'pass',
      text: 'objects are encrypted to 2 public keys, and this host can read them',
    })
    expect(await keys({ recipients: [ours.recipient] })).toMatchObject({
      verdict: 'pass',
      text: 'objects are encrypted to one public key; this host has no secret key: it can write but not read',
    })
    expect(await keys({ recipients: [other.recipient], identityFile })).toMatchObject({
      verdict: 'fail',
      text: expect.stringContaining('no secret key of this host fits'),
    })
    expect(await keys({ recipients: [`${ours.recipient.slice(0, -1)}b`] })).toMatchObject({ verdict: 'fail' })
  })
})

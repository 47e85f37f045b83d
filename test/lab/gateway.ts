import { execFileSync } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  CreateBucketCommand,
  PutBucketPolicyCommand,
  PutBucketVersioningCommand,
  S3Client,
} from '@aws-sdk/client-s3'
import { execa } from 'execa'
import type { S3Address } from '../../src/storage/storage.ts'
import { cleanEnvironment } from './environment.ts'
import { Scratch } from './scratch.ts'
import { giveToLabUser } from './user.ts'

const SCRIPT = fileURLToPath(new URL('../../scripts/gateway.sh', import.meta.url))
const PROGRAMS = ['ceph-mon', 'ceph-osd', 'radosgw', 'radosgw-admin']

/** Who may do what, and where an S3 client reads it. */
export interface Credentials {
  accessKeyId: string
  secretAccessKey: string
  /** AWS's shared credentials file with one profile, `default`; the lab's user can read it. */
  credentialsFile: string
}

export interface BucketOptions {
  /** Implies versioning. */
  objectLock?: boolean
  versioning?: boolean
}

/** A real S3 server on loopback, which keeps everything in memory: see scripts/gateway.sh. */
export class Gateway implements Credentials, AsyncDisposable {
  /** `http://127.x.y.z:7480`; buckets are in the path. */
  readonly endpoint: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly credentialsFile: string
  /** Of the owner, past all that is tested: for tests that look at what is stored. */
  readonly client: S3Client
  /** Its folder, which also is the HOME of its servers. */
  readonly scratch: Scratch
  /** File of its certificate, where it is reached by TLS. */
  readonly certificate: string | undefined
  readonly #statements = new Map<string, object[]>()

  private constructor(
    scratch: Scratch,
    endpoint: string,
    credentials: Credentials,
    certificate: string | undefined,
  ) {
    this.scratch = scratch
    this.endpoint = endpoint
    this.accessKeyId = credentials.accessKeyId
    this.secretAccessKey = credentials.secretAccessKey
    this.credentialsFile = credentials.credentialsFile
    this.certificate = certificate
    const ca = certificate && readFileSync(certificate)
    const requestHandler = ca ? { httpsAgent: { ca } } : {}
    this.client = new S3Client({
      endpoint,
      region: 'us-east-1',
      forcePathStyle: true,
      credentials,
      requestHandler,
    })
  }

  /** Takes about a second. @throws with the end of its log when it does not start */
  static async start({ tls = false } = {}): Promise<Gateway> {
    const scratch = await Scratch.create('gateway')
    try {
      const endpoint = await run(scratch, 'start', ...(tls ? ['tls'] : []))
      const credentialsFile = join(scratch.path, 'credentials')
      await giveToLabUser(credentialsFile)
      const text = await readFile(credentialsFile, 'utf8')
      const [, accessKeyId, secretAccessKey] = /key_id = (\S+)\n.*access_key = (\S+)/.exec(text)!
      const credentials = { accessKeyId: accessKeyId!, secretAccessKey: secretAccessKey!, credentialsFile }
      const certificate = tls ? join(scratch.path, 'certificate.pem') : undefined
      if (certificate) await giveToLabUser(certificate)
      return new Gateway(scratch, endpoint, credentials, certificate)
    } catch (error) {
      await scratch[Symbol.asyncDispose]()
      throw error
    }
  }

  /** Makes a bucket. @returns its name, which no other has */
  async bucket(options: BucketOptions = {}): Promise<string> {
    const Bucket = `lab-${randomUUID()}`
    await this.client.send(
      new CreateBucketCommand({ Bucket, ObjectLockEnabledForBucket: options.objectLock ?? false }),
    )
    if (options.versioning) {
      const VersioningConfiguration = { Status: 'Enabled' } as const
      await this.client.send(new PutBucketVersioningCommand({ Bucket, VersioningConfiguration }))
    }
    return Bucket
  }

  /**
   * Makes a user who may do in one bucket what is listed, and nothing anywhere else.
   *
   * @param actions as bucket policies call them: `s3:PutObject`, `s3:ListBucket`
   */
  async user(bucket: string, actions: string[]): Promise<Credentials> {
    const name = `user-${randomBytes(4).toString('hex')}`
    const [accessKeyId, secretAccessKey] = [`KEY${randomBytes(8).toString('hex')}`, randomUUID()]
    await run(this.scratch, 'user', name, accessKeyId, secretAccessKey)
    const statements = this.#statements.get(bucket) ?? []
    this.#statements.set(bucket, statements)
    statements.push({
      Effect: 'Allow',
      Principal: { AWS: [`arn:aws:iam:::user/${name}`] },
      Action: actions,
      Resource: [`arn:aws:s3:::${bucket}`, `arn:aws:s3:::${bucket}/*`],
    })
    const Policy = JSON.stringify({ Version: '2012-10-17', Statement: statements })
    await this.client.send(new PutBucketPolicyCommand({ Bucket: bucket, Policy }))
    return this.credentials(accessKeyId, secretAccessKey)
  }

  /** Writes a credentials file with these keys, be they known to the gateway or not. */
  async credentials(
    accessKeyId: string,
    secretAccessKey: string,
    sessionToken?: string,
  ): Promise<Credentials> {
    const lines = [
      '[default]',
      `aws_access_key_id = ${accessKeyId}`,
      `aws_secret_access_key = ${secretAccessKey}`,
      ...(sessionToken ? [`aws_session_token = ${sessionToken}`] : []),
    ]
    const credentialsFile = await this.scratch.file(`credentials-${randomUUID()}`, `${lines.join('\n')}\n`)
    return { accessKeyId, secretAccessKey, credentialsFile }
  }

  /** How pgrecall reaches a bucket, with small parts, so that small objects have several. */
  address(bucket: string, overrides: Partial<S3Address> = {}): S3Address {
    return {
      type: 's3',
      bucket,
      prefix: '',
      region: 'us-east-1',
      endpoint: this.endpoint,
      forcePathStyle: true,
      credentialsFile: this.credentialsFile,
      conditionalWrites: true,
      partBytes: 5 * 1024 * 1024,
      parallelParts: 2,
      ...overrides,
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.destroy()
    await run(this.scratch, 'stop')
    await this.scratch[Symbol.asyncDispose]()
  }
}

let shared: Promise<Gateway> | undefined

/**
 * One gateway for all of this process, which is one test file: it starts when it is first asked for, and ends with the
 * process, in whatever way that ends. Each test makes buckets of its own.
 */
export function sharedGateway(): Promise<Gateway> {
  shared ??= Gateway.start()
  return shared
}

/**
 * For `describe.skipIf`: why there is no gateway on this machine, or `undefined`. Where CI is set, it throws, because there
 * a test that did not run looks like one that passed.
 */
export function gatewayMissing(): string | undefined {
  const missing = PROGRAMS.filter((program) => !isOnPath(program))
  if (missing.length === 0) return undefined
  const message = `no S3 server: ${missing.join(', ')} not installed (Debian, Ubuntu: apt-get install ceph-mon ceph-osd radosgw)`
  if (process.env.CI) throw new Error(message)
  return message
}

function isOnPath(program: string): boolean {
  try {
    execFileSync('sh', ['-c', 'command -v "$1"', 'sh', program], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

/** With the scratch as HOME, so that the lab knows the processes; see leftovers.ts. */
async function run(scratch: Scratch, verb: string, ...args: string[]): Promise<string> {
  const { stdout } = await execa(SCRIPT, [verb, scratch.path, ...args], {
    env: cleanEnvironment(scratch.path),
    extendEnv: false,
    stdin: 'ignore',
  })
  return stdout
}

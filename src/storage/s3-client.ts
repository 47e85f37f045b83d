import { readFile } from 'node:fs/promises'
import { setTimeout as wait } from 'node:timers/promises'
import type * as S3 from '@aws-sdk/client-s3'
import { PgrecallError, reasonOf } from '../errors.ts'
import { type Operation, S3Fault } from './s3-fault.ts'
import type { S3Address } from './storage.ts'

/** What goes into each operation, without the bucket, and what comes out of it. */
type Calls = {
  AbortMultipartUpload: [S3.AbortMultipartUploadCommandInput, S3.AbortMultipartUploadCommandOutput]
  CompleteMultipartUpload: [S3.CompleteMultipartUploadCommandInput, S3.CompleteMultipartUploadCommandOutput]
  CreateMultipartUpload: [S3.CreateMultipartUploadCommandInput, S3.CreateMultipartUploadCommandOutput]
  DeleteObject: [S3.DeleteObjectCommandInput, S3.DeleteObjectCommandOutput]
  GetBucketVersioning: [S3.GetBucketVersioningCommandInput, S3.GetBucketVersioningCommandOutput]
  GetObject: [S3.GetObjectCommandInput, S3.GetObjectCommandOutput]
  GetObjectLockConfiguration: [
    S3.GetObjectLockConfigurationCommandInput,
    S3.GetObjectLockConfigurationCommandOutput,
  ]
  HeadObject: [S3.HeadObjectCommandInput, S3.HeadObjectCommandOutput]
  ListMultipartUploads: [S3.ListMultipartUploadsCommandInput, S3.ListMultipartUploadsCommandOutput]
  ListObjectsV2: [S3.ListObjectsV2CommandInput, S3.ListObjectsV2CommandOutput]
  ListParts: [S3.ListPartsCommandInput, S3.ListPartsCommandOutput]
  PutObject: [S3.PutObjectCommandInput, S3.PutObjectCommandOutput]
  PutObjectRetention: [S3.PutObjectRetentionCommandInput, S3.PutObjectRetentionCommandOutput]
  UploadPart: [S3.UploadPartCommandInput, S3.UploadPartCommandOutput]
  UploadPartCopy: [S3.UploadPartCopyCommandInput, S3.UploadPartCopyCommandOutput]
}
export type Input<O extends Operation> = Omit<Calls[O][0], 'Bucket'>
export type Output<O extends Operation> = Calls[O][1]

/** How long a store is waited for. */
export interface Patience {
  /** A connection on which nothing moves for so long is given up, and the request is sent again. */
  silentMs: number
  /** How often a request is sent before its failure counts; for a read, how often in a row without a single byte. */
  attempts: number
  /** The pause after the first failed attempt; it doubles from one to the next, up to 8 s. */
  firstPauseMs: number
}

/** Half a minute in all for a store that is down, which a restart of a gateway fits in. */
export const PATIENCE: Patience = { silentMs: 30_000, attempts: 8, firstPauseMs: 250 }
const LONGEST_PAUSE_MS = 8000
const CONNECT_MS = 10_000

/** Otherwise the SDK warns on the console, which belongs to the program. */
const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {} }

/**
 * The requests to one bucket.
 *
 * The SDK sends each one once, and the repeating is ours. It must be known here whether an earlier attempt may have been
 * carried out, to tell our own write from somebody else's. And the SDK's strategy (StandardRetryStrategy in @smithy/core) pays
 * for all retries of a client from one purse of 500 tokens: some parts of one upload that meet a slow-down leave nothing to the others.
 */
export class S3Bucket {
  readonly #address: S3Address
  readonly patience: Patience
  #opened:
    | Promise<{ client: S3.S3Client; commands: Record<Operation, new (input: never) => never> }>
    | undefined
  /** An answer was seen that only an existing bucket gives. */
  isThere = false

  constructor(address: S3Address, patience: Patience) {
    this.#address = address
    this.patience = patience
  }

  /**
   * One request, sent again while its failure is one that passes.
   * @param input `Key` or `Prefix` say what it is about
   * @throws S3Fault when it fails for good; what the signal was fired with
   */
  async send<O extends Operation>(operation: O, input: Input<O>, signal?: AbortSignal): Promise<Output<O>> {
    for (let attempt = 1; ; attempt++) {
      signal?.throwIfAborted()
      const { client, commands } = await this.#open()
      try {
        const command = new commands[operation]({ Bucket: this.#address.bucket, ...input } as never)
        const output = await client.send(command, signal && { abortSignal: signal })
        this.isThere = true
        return output
      } catch (error) {
        signal?.throwIfAborted()
        const { Key, Prefix } = input as { Key?: string; Prefix?: string }
        const fault = new S3Fault(operation, Key ?? Prefix ?? '', attempt, error)
        this.isThere ||= fault.isAbsent
        if (!fault.passes || attempt >= this.patience.attempts) throw fault
        await this.pause(attempt, signal)
      }
    }
  }

  /** The pause after a failed attempt, which differs a little so that those who failed together do not come back together. */
  async pause(attempt: number, signal?: AbortSignal): Promise<void> {
    const longest = Math.min(this.patience.firstPauseMs * 2 ** (attempt - 1), LONGEST_PAUSE_MS)
    await wait(longest * (0.5 + Math.random() / 2), undefined, signal && { signal }).catch(() =>
      signal?.throwIfAborted(),
    )
  }

  /** How far the store's clock is ahead of ours, in ms, by its last answer; to the second. */
  async clockAheadMs(): Promise<number> {
    const { client } = await this.#open()
    return client.config.systemClockOffset
  }

  #open() {
    this.#opened ??= this.#connect()
    return this.#opened
  }

  async #connect() {
    const {
      bucket: _bucket,
      region,
      endpoint,
      forcePathStyle,
      profile,
      credentialsFile,
      caFile,
    } = this.#address
    const tls = caFile === undefined ? {} : { ca: await trusted(caFile) }
    const { S3Client, COMMANDS, fromIni } = await import('./s3-sdk.ts')
    // Other stores than AWS's have one region, and most do not care what it is called.
    const signingRegion = region ?? (endpoint === undefined ? undefined : 'us-east-1')
    // Nobody waits for a free connection: how many there are is limited by who asks. Without the handler's own agent
    // settings it would be 50, and the time in the queue would count as time to connect.
    const agent = { keepAlive: true, maxSockets: Number.POSITIVE_INFINITY }
    const client = new S3Client({
      ...(signingRegion !== undefined && { region: signingRegion }),
      ...(endpoint !== undefined && { endpoint }),
      ...(forcePathStyle !== undefined && { forcePathStyle }),
      ...(profile !== undefined && { profile }),
      ...(credentialsFile !== undefined && {
        credentials: fromIni({ filepath: credentialsFile, ...(profile !== undefined && { profile }) }),
      }),
      maxAttempts: 1,
      // Bodies need no other sum: they are in memory, so the SDK signs their SHA-256 (getPayloadHash in
      // @smithy/signature-v4, over http and https alike) and the store refuses what does not fit.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      // It would cost a connection for each write, as the handler uses an agent of its own for it.
      expectContinueHeader: false,
      requestHandler: {
        connectionTimeout: CONNECT_MS,
        // Counts from the last byte that moved, either way.
        socketTimeout: this.patience.silentMs,
        httpAgent: agent,
        httpsAgent: { ...agent, ...tls },
      },
      logger: SILENT,
    })
    return { client, commands: COMMANDS as unknown as Record<Operation, new (input: never) => never> }
  }
}

async function trusted(caFile: string): Promise<string[]> {
  // Only here, since loading it takes a hook some of its time.
  const { getCACertificates } = await import('node:tls')
  try {
    return [...getCACertificates('default'), await readFile(caFile, 'utf8')]
  } catch (error) {
    throw new PgrecallError('config', `cannot read the certificates in ${caFile}: ${reasonOf(error)}`, {
      cause: error,
      hint: 'caFile must be a file of PEM certificates that this user may read',
    })
  }
}

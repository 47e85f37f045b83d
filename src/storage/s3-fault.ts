import { reasonOf, systemCode } from '../errors.ts'
import type { COMMANDS } from './s3-sdk.ts'

export type Operation = keyof typeof COMMANDS

/** What the SDK's errors carry beside their name, which is the store's code. */
interface Answer {
  $metadata?: { httpStatusCode?: number; clockSkewCorrected?: boolean }
  $response?: { statusCode?: number; headers?: Record<string, string> }
  ServerTime?: unknown
}

/** The store's or the network's word for what passes. https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html */
const PASSING = new Set([
  'SlowDown',
  'SlowDownRead',
  'SlowDownWrite',
  'InternalError',
  'ServiceUnavailable',
  'RequestTimeout',
  'TimeoutError',
  'Throttling',
  'ThrottlingException',
  'TooManyRequestsException',
  // Somebody else writes the same key at this moment.
  'ConditionalRequestConflict',
  'OperationAborted',
  // The bytes that arrived are not those that were signed.
  'XAmzContentSHA256Mismatch',
  'BadDigest',
  'IncompleteBody',
  'ECONNRESET',
  'ECONNREFUSED',
  'EPIPE',
  'ETIMEDOUT',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
])
/** A request whose time is another than the store's. */
const SKEWED = new Set(['RequestTimeTooSkewed', 'RequestExpired', 'RequestInTheFuture'])
const PASSING_STATUS = [429, 500, 502, 503, 504]

/** A request that failed, after all its attempts. */
export class S3Fault extends Error {
  override readonly name = 'S3Fault'
  readonly operation: Operation
  /** What it was about: an object's name in the bucket, or the beginning of names. */
  readonly target: string
  /** The store's code (`NoSuchKey`), or the system's (`ECONNRESET`); an answer without a body has `Unknown` or `NotFound`. */
  readonly code: string
  readonly status: number | undefined
  readonly attempts: number
  readonly headers: Record<string, string>

  constructor(operation: Operation, target: string, attempts: number, cause: unknown) {
    super(reasonOf(cause), { cause })
    const answer = cause as Answer | undefined
    this.operation = operation
    this.target = target
    this.attempts = attempts
    this.code = systemCode(cause) ?? (cause instanceof Error ? cause.name : 'Unknown')
    this.status = answer?.$response?.statusCode ?? answer?.$metadata?.httpStatusCode
    this.headers = answer?.$response?.headers ?? {}
  }

  /** Whether the same request can be answered otherwise a moment later. */
  get passes(): boolean {
    const { status = 0, code } = this
    if (this.isPreconditionFailed || code === 'NotImplemented') return false
    if (PASSING.has(code) || PASSING_STATUS.includes(status)) return true
    // A good answer that cannot be read was cut or changed on its way.
    if (code.startsWith('HPE_') || (status >= 200 && status < 300)) return true
    // The SDK has learned from the answer how much the clocks differ, and signs the next request by the store's. It says so of
    // every failure on a host whose clock is wrong, so only those are meant that can come of it.
    const isOfClock = SKEWED.has(code) || (this.operation === 'HeadObject' && status === 403)
    return isOfClock && (this.cause as Answer | undefined)?.$metadata?.clockSkewCorrected === true
  }

  /** A condition (`If-None-Match`, `If-Match`) that does not hold. */
  get isPreconditionFailed(): boolean {
    return this.code === 'PreconditionFailed' || this.status === 412
  }

  /** Whether it is known that there is no such object; a bucket that is missing is another matter. */
  get isAbsent(): boolean {
    return this.code === 'NoSuchKey'
  }

  /** An earlier attempt may have done what was asked without that we heard of it. */
  get mayHaveHappened(): boolean {
    return this.attempts > 1
  }
}

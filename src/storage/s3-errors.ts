import { PgrecallError } from '../errors.ts'
import { type Operation, S3Fault } from './s3-fault.ts'
import type { S3Address } from './storage.ts'

/**
 * What each operation is called in a sentence, and the permission that it needs.
 * https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html
 */
const OPERATIONS: Record<Operation, [doing: string, permission: string]> = {
  PutObject: ['write', 's3:PutObject'],
  CreateMultipartUpload: ['write', 's3:PutObject'],
  UploadPart: ['write', 's3:PutObject'],
  UploadPartCopy: ['write', 's3:PutObject and s3:GetObject'],
  CompleteMultipartUpload: ['write', 's3:PutObject'],
  GetObject: ['read', 's3:GetObject'],
  HeadObject: ['read', 's3:GetObject'],
  ListObjectsV2: ['list', 's3:ListBucket'],
  DeleteObject: ['remove', 's3:DeleteObject'],
  PutObjectRetention: ['lock', 's3:PutObjectRetention'],
  AbortMultipartUpload: ['end the upload of', 's3:AbortMultipartUpload'],
  ListMultipartUploads: ['list the unfinished uploads of', 's3:ListBucketMultipartUploads'],
  ListParts: ['list the uploaded parts of', 's3:ListMultipartUploadParts'],
  GetBucketVersioning: ['see the versioning of', 's3:GetBucketVersioning'],
  GetObjectLockConfiguration: ['see the object lock of', 's3:GetBucketObjectLockConfiguration'],
}

interface Telling {
  reason: string
  hint?: string
}

/**
 * A failed request as a sentence with a next step; any other error as it is. No secret, and no signed text, gets into it.
 */
export function s3Error(error: unknown, address: S3Address): unknown {
  if (!(error instanceof S3Fault)) return error
  const [doing] = OPERATIONS[error.operation]
  const { reason, hint } = tell(error, address)
  return new PgrecallError('repository', `cannot ${doing} ${whereOf(error, address)}: ${reason}`, {
    cause: error,
    ...(hint !== undefined && { hint }),
  })
}

/** Where an object, or the beginning of some, is: `s3://bucket/prefix/key`. */
export function urlOf({ bucket }: S3Address, target = ''): string {
  return `s3://${bucket}${target === '' ? '' : `/${target}`}`
}

/** What the store keeps locked. @param until when that is known */
export function lockedObject(fault: S3Fault, address: S3Address, until: Date | undefined): PgrecallError {
  const how = until ? `the store keeps it locked until ${until.toISOString()}` : 'the store keeps it locked'
  return new PgrecallError('refused', `cannot remove ${whereOf(fault, address)}: ${how}`, {
    cause: fault,
    hint: 'it can be removed when the lock has ended; retention tries again each time it runs',
  })
}

function whereOf({ operation, target }: S3Fault, address: S3Address): string {
  const isOfBucket = operation === 'GetBucketVersioning' || operation === 'GetObjectLockConfiguration'
  return urlOf(address, isOfBucket ? '' : target)
}

function tell(fault: S3Fault, address: S3Address): Telling {
  return (
    BY_CODE[fault.code]?.(fault, address) ??
    ofCertificates(fault, address) ??
    ofMessage(fault, address) ??
    ofStatus(fault, address) ?? {
      reason: `${fault.code === 'Error' ? '' : `${fault.code}: `}${fault.message}`,
    }
  )
}

const BY_CODE: Record<string, (fault: S3Fault, address: S3Address) => Telling> = {
  NoSuchBucket: (_fault, { bucket }) => ({
    reason: `there is no bucket "${bucket}"`,
    hint: 'look at bucket, region and endpoint in the configuration; pgrecall makes no buckets',
  }),
  PermanentRedirect: ofRegion,
  AuthorizationHeaderMalformed: ofRegion,
  IllegalLocationConstraintException: ofRegion,
  InvalidAccessKeyId: () => ({
    reason: 'the store does not know the access key id',
    hint: 'look at the credentials: the environment, the profile, or credentialsFile; and whether the endpoint is the right one',
  }),
  SignatureDoesNotMatch: () => ({
    reason: 'the secret access key does not fit the access key id',
    hint: 'look at the credentials; a secret with a trailing space or a missing character looks right',
  }),
  RequestTimeTooSkewed: (fault) => ({
    reason: `the clock of this host and the store's differ by too much${difference(fault)}`,
    hint: 'set the clock (timedatectl, chronyc tracking), then run this again',
  }),
  ExpiredToken: ofExpiry,
  ExpiredTokenException: ofExpiry,
  TokenRefreshRequired: ofExpiry,
  InvalidToken: () => ({ reason: 'the session token is not valid', hint: 'renew the credentials' }),
  CredentialsProviderError: ofCredentials,
  TokenProviderError: ofCredentials,
  AccessDenied: ofDenial,
  AllAccessDisabled: ofDenial,
  NotImplemented: ofMissing,
  InvalidStorageClass: (_fault, { storageClass }) => ({
    reason: `the store has no storage class "${storageClass ?? 'STANDARD'}"`,
    hint: 'set storageClass to one that it has, or leave it out',
  }),
  PreconditionFailed: () => ({
    reason: 'it was replaced by somebody else at the same moment',
    hint: 'run this again',
  }),
  InvalidObjectState: () => ({
    reason: 'the object lies in a storage class that cannot be read at once',
    hint: 'bring it back with the means of the store (restore-object), then run this again',
  }),
  NoSuchUpload: () => ({
    reason: 'the store has forgotten the upload',
    hint: 'a lifecycle rule of the bucket may end unfinished uploads too early; give it a day or more',
  }),
  QuotaExceeded: () => ({
    reason: "the store's quota is used up",
    hint: 'raise the quota or free some space, for example with "pgrecall retention"',
  }),
  SlowDown: ofSlowness,
  SlowDownRead: ofSlowness,
  SlowDownWrite: ofSlowness,
  TimeoutError: ofSilence,
  ETIMEDOUT: ofSilence,
  ENOTFOUND: ofName,
  EAI_AGAIN: ofName,
  ECONNREFUSED: (_fault, { endpoint }) => ({
    reason: `nothing answers at ${endpoint ?? 'the store'} (connection refused)`,
    hint: 'look at endpoint in the configuration, and whether the store runs',
  }),
  ECONNRESET: (fault) => ({
    reason: `the connection broke in each of ${fault.attempts} attempts`,
    hint: 'look at the network, and at proxies between here and the store',
  }),
}

function ofRegion(fault: S3Fault, { region }: S3Address): Telling {
  const right = fault.headers['x-amz-bucket-region'] ?? /expecting '([\w-]+)'/.exec(fault.message)?.[1]
  return {
    reason: `the bucket is not in the region "${region ?? 'us-east-1'}"${right ? ` but in "${right}"` : ''}`,
    hint: right ? `set region: ${right} in the configuration` : 'set region in the configuration',
  }
}

function ofExpiry(): Telling {
  return { reason: 'the session token has expired', hint: 'renew the credentials, then run this again' }
}

function ofCredentials(fault: S3Fault, { profile, credentialsFile }: S3Address): Telling {
  if (credentialsFile !== undefined)
    return {
      reason: `no credentials of the profile "${profile ?? 'default'}" were found in ${credentialsFile}`,
      hint: 'the file needs a section of that name with aws_access_key_id and aws_secret_access_key, and this user must be able to read it',
    }
  return {
    reason: `no credentials were found (${fault.message})`,
    hint:
      'looked for in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/credentials and ~/.aws/config ' +
      `(profile "${profile ?? 'default'}"), a web identity token, and the roles of container and instance; ` +
      'or name a file with credentialsFile',
  }
}

function ofDenial(fault: S3Fault, { kmsKeyId, objectLock }: S3Address): Telling {
  const [, needed] = OPERATIONS[fault.operation]
  const permission = fault.operation === 'DeleteObject' && objectLock ? `${needed}Version` : needed
  if (/kms/i.test(fault.message))
    return {
      reason: `the key ${kmsKeyId ?? 'of the bucket'} may not be used by these credentials`,
      hint: 'they need kms:GenerateDataKey to write and kms:Decrypt to read with it',
    }
  const hints: Partial<Record<Operation, string>> = {
    GetObject: 'without s3:ListBucket a store says the same of an object that is not there',
    HeadObject: 'without s3:ListBucket a store says the same of an object that is not there',
    DeleteObject: 'a host that must not remove can back up all the same; retention runs where it is allowed',
  }
  return {
    reason: `access denied; the credentials lack ${permission}`,
    hint: hints[fault.operation] ?? `allow ${permission} in the policy of the bucket or of the user`,
  }
}

function ofMissing(_fault: S3Fault, { conditionalWrites }: S3Address): Telling {
  return {
    reason: 'the store does not have what the request asks for',
    ...(conditionalWrites && {
      hint: 'if the store does not know "If-None-Match" on writes, set conditionalWrites: false in the configuration',
    }),
  }
}

function ofSlowness({ attempts }: S3Fault): Telling {
  return {
    reason: `the store asked to slow down in each of ${attempts} attempts`,
    hint: 'run it again later, with fewer jobs or a smaller parallelParts',
  }
}

function ofSilence({ attempts }: S3Fault, { endpoint }: S3Address): Telling {
  return {
    reason: `${endpoint ?? 'the store'} did not answer in ${attempts} attempts`,
    hint: 'look at the network, and at endpoint in the configuration',
  }
}

function ofName(_fault: S3Fault, { endpoint, region }: S3Address): Telling {
  return {
    reason: `the name of ${endpoint ?? `the store in region "${region ?? ''}"`} cannot be resolved`,
    hint: 'look at endpoint, forcePathStyle and region in the configuration, and at the name service of this host',
  }
}

/** OpenSSL's and Node's codes for a certificate that is not trusted. https://nodejs.org/api/tls.html#x509-certificate-error-codes */
function ofCertificates({ code, message }: S3Fault, { endpoint, caFile }: S3Address): Telling | undefined {
  if (!/CERT|SIGNATURE|ISSUER|ERR_TLS/.test(code) || code === 'SignatureDoesNotMatch') return undefined
  return {
    reason: `the certificate of ${endpoint ?? 'the store'} is not trusted (${message})`,
    hint: caFile
      ? `${caFile} (caFile) must hold the certificate of the authority that signed it`
      : 'set caFile to a file with the certificate of the authority that signed it',
  }
}

/** What has no code of its own. */
function ofMessage(fault: S3Fault, address: S3Address): Telling | undefined {
  if (fault.message.startsWith('Region is missing'))
    return {
      reason: 'the region of the bucket is not known',
      hint: 'set region in the configuration, AWS_REGION, or the region of the profile',
    }
  if (/EPROTO|wrong version number|HPE_/.test(`${fault.code} ${fault.message}`))
    return {
      reason: `what answers at ${address.endpoint ?? 'the store'} does not speak as a store does`,
      hint: 'look at endpoint in the configuration: http or https, and the port',
    }
  const isWrite = OPERATIONS[fault.operation][0] === 'write'
  if (fault.code === 'InvalidArgument' && isWrite && address.storageClass)
    return {
      reason: 'the store does not take the request (InvalidArgument)',
      hint: `it may have no storage class "${address.storageClass}"`,
    }
  if (fault.code === 'InvalidRequest' && isWrite && address.objectLock)
    return {
      reason: 'the store does not take the request (InvalidRequest)',
      hint: 'objectLock is configured, and the bucket may have none',
    }
  return undefined
}

/** Answers to HEAD have no body, and those of some proxies one that says nothing. */
function ofStatus(fault: S3Fault, address: S3Address): Telling | undefined {
  if (fault.status === 301) return ofRegion(fault, address)
  if (fault.status === 403) return ofDenial(fault, address)
  if (fault.status === 501) return ofMissing(fault, address)
  if (fault.status === 503) return ofSlowness(fault)
  if (fault.status !== undefined && fault.status >= 500)
    return {
      reason: `the store failed with status ${fault.status} in each of ${fault.attempts} attempts`,
      hint: 'look at the store, then run this again',
    }
  return undefined
}

/** By how much the clocks differ, where the answer tells. */
function difference({ headers }: S3Fault): string {
  const aheadMs = Date.parse(headers.date ?? '') - Date.now()
  if (Number.isNaN(aheadMs)) return ''
  const minutes = Math.round(Math.abs(aheadMs) / 60_000)
  return `: ours is ${minutes} minutes ${aheadMs > 0 ? 'behind' : 'ahead'}`
}

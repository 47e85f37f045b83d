import { PgrecallError } from '../errors.ts'

/**
 * The contract of a repository's storage. Every backend passes the same suite, `test/storage/contract.ts`.
 *
 * Keys are relative, `/`-separated, of letters, digits and `._-+=@`; no segment is empty, `.`, `..` or begins
 * with a dot. Absent is a result, not an exception: only faults throw, as PgrecallError of kind `repository`.
 */
export interface Storage {
  /** Where this is, for people: `/var/lib/pgrecall` or `s3://bucket/prefix`. */
  readonly location: string

  /** How a worker thread opens the same storage. */
  readonly address: StorageAddress

  /**
   * Stores one object, all or nothing: when this resolves the bytes are durable under `key`; when it rejects,
   * or the process dies, `key` is as it was before. With `ifAbsent` an existing object is never replaced, even
   * when two hosts write at the same moment: exactly one of them gets `stored`, the others get `exists`.
   *
   * A chunk from `source` may be reused by its producer as soon as the next one is asked for.
   */
  put(key: string, source: Source, options?: PutOptions): Promise<'stored' | 'exists'>

  /**
   * The bytes of an object, or `undefined` when there is none. A range that reaches past the end gives what
   * there is. A chunk stays valid until the next one is asked for.
   */
  get(key: string, options?: GetOptions): Promise<AsyncIterable<Buffer> | undefined>

  /** The size and age of an object, or `undefined`. */
  stat(key: string): Promise<ObjectFacts | undefined>

  /** All objects whose key begins with `prefix`, in byte order of their keys, after `startAfter` when given. */
  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectFacts>

  /** The names of the folders directly below `prefix` (which ends in `/` or is empty), in byte order. */
  folders(prefix: string): AsyncIterable<string>

  /** The names of the objects directly below `prefix` (which ends in `/` or is empty), in byte order; none of its folders'. */
  names(prefix: string): AsyncIterable<string>

  /**
   * Removes an object durably. An absent one is fine.
   * @throws PgrecallError `refused` for an object that the store keeps locked until a later time
   */
  remove(key: string): Promise<void>

  /**
   * Replaces the first bytes of an object by others, all or nothing, and leaves the rest as it is; where the store can, the
   * rest is not moved. For the headers of encrypted objects.
   * @param oldBytes how many bytes of the stored object go
   */
  replaceStart(
    key: string,
    oldBytes: number,
    start: Uint8Array,
    options?: { signal?: AbortSignal },
  ): Promise<void>

  /**
   * Sees to it that an object which was put as `immutable` is locked until a moment, or longer. Does nothing where the
   * repository is not configured to lock.
   */
  lockUntil(key: string, until: Date): Promise<void>

  /** Removes what writes that never finished have left behind; says how much that was. */
  sweep(): Promise<{ objects: number; bytes: number }>

  /** Bytes that can still be written, where the backend knows. */
  freeBytes(): Promise<number | undefined>

  /**
   * Tries each operation that pgrecall needs, with objects of its own that it removes, and looks at how the store is set up.
   * With `readOnly` it only looks, and changes nothing.
   */
  probe(signal?: AbortSignal, options?: { readOnly?: boolean }): AsyncIterable<ProbeFinding>
}

/** What came out of trying one thing. */
export interface ProbeFinding {
  /** What was tried, in a few words: "write an object". */
  subject: string
  verdict: 'pass' | 'warn' | 'fail'
  text: string
  hint?: string
}

export type Source = Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>

export interface PutOptions {
  /** Exact between two hosts for a source that is in memory; one that streams is only looked at before, and at the end. */
  ifAbsent?: boolean
  /**
   * It is part of a backup or of the archive, and never replaced: it gets the storage class that is configured, and is stored
   * locked where the repository is configured to lock.
   */
  immutable?: boolean
  /** It is immutable, but locked only later, by `lockUntil`: what it is a part of may never be completed. */
  lockedLater?: boolean
  signal?: AbortSignal
}

export interface GetOptions {
  /** Bytes of the stored object, from `offset`, at most `length`. */
  range?: { offset: number; length: number }
  signal?: AbortSignal
}

export interface ListOptions {
  startAfter?: string
  signal?: AbortSignal
}

export interface ObjectFacts {
  key: string
  bytes: number
  modified: Date
  /** Until when the store refuses to remove it; only `stat` tells, where the repository is configured to lock. */
  lockedUntil?: Date
}

/** How another thread opens the same storage: plain data that crosses a `postMessage`, without any secret. */
export type StorageAddress = { type: 'local'; path: string } | S3Address

/** A repository in a bucket. Credentials come from where the AWS SDK finds them, or from the profile and file named here. */
export interface S3Address {
  type: 's3'
  bucket: string
  /** In front of every key: empty, or ends in `/`. */
  prefix: string
  region?: string | undefined
  /** The store's URL, for all but AWS itself. */
  endpoint?: string | undefined
  /** `https://host/bucket/key` instead of `https://bucket.host/key`. */
  forcePathStyle?: boolean | undefined
  /** A profile of the shared credentials, and their file where that is not the usual one. */
  profile?: string | undefined
  credentialsFile?: string | undefined
  /** Certificates of authorities that are trusted beside the usual ones, PEM. */
  caFile?: string | undefined
  /** Of what is put as `immutable`. What changes, such as locks and the catalog, stays where it is read and replaced at once. */
  storageClass?: string | undefined
  tags?: Record<string, string> | undefined
  serverSideEncryption?: 'AES256' | 'aws:kms' | undefined
  kmsKeyId?: string | undefined
  /** Whether the store knows `If-None-Match` on writes. */
  conditionalWrites: boolean
  objectLock?: { mode: 'GOVERNANCE' | 'COMPLIANCE'; days: number } | undefined
  /** Bytes of one part of a multipart upload, and how many parts of one object are on their way at once. */
  partBytes: number
  parallelParts: number
}

const KEY = /^(?:[A-Za-z0-9_+=@-][A-Za-z0-9._+=@-]*)(?:\/[A-Za-z0-9_+=@-][A-Za-z0-9._+=@-]*)*$/

/** Whether a key keeps the rules above; a backend refuses any other, so that no key can leave its root. */
export function isValidKey(key: string): boolean {
  return KEY.test(key) && key.length <= 900
}

/** Whether some valid key could begin so: a listing goes only where keys can be. */
export function isValidPrefix(prefix: string): boolean {
  return prefix === '' || isValidKey(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix)
}

/** @throws PgrecallError `repository` unless it is a valid key */
export function requireKey(key: string): void {
  if (!isValidKey(key)) throw new PgrecallError('repository', `"${key}" is not a valid object key`)
}

/** @throws PgrecallError `repository` unless a valid key could begin so */
export function requirePrefix(prefix: string): void {
  if (!isValidPrefix(prefix))
    throw new PgrecallError('repository', `"${prefix}" is not the beginning of a key`)
}

/** Where an object has to be, and is not. @param where its path or URL */
export function absentObject(where: string): PgrecallError {
  return new PgrecallError('repository', `cannot change ${where}: it is not there`)
}

/**
 * A whole small object in memory, or `undefined` when absent.
 * @param limit refuse (by `RangeError`) to hold more than this many bytes; 64 MiB when left out
 */
export async function readObject(
  storage: Pick<Storage, 'get'>,
  key: string,
  options: GetOptions & { limit?: number } = {},
): Promise<Buffer | undefined> {
  const { limit = 64 * 1024 * 1024, ...rest } = options
  const chunks = await storage.get(key, rest)
  if (!chunks) return undefined
  const parts: Buffer[] = []
  let bytes = 0
  for await (const chunk of chunks) {
    bytes += chunk.length
    if (bytes > limit) throw new RangeError(`${key} is larger than ${limit} bytes`)
    parts.push(Buffer.from(chunk))
  }
  return Buffer.concat(parts, bytes)
}

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

  /** Removes an object durably. An absent one is fine. */
  remove(key: string): Promise<void>

  /** Removes what writes that never finished have left behind; says how much that was. */
  sweep(): Promise<{ objects: number; bytes: number }>

  /** Bytes that can still be written, where the backend knows. */
  freeBytes(): Promise<number | undefined>
}

export type Source = Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>

export interface PutOptions {
  ifAbsent?: boolean
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
}

/** How another thread opens the same storage: plain data that crosses a `postMessage`. */
export type StorageAddress = { type: 'local'; path: string }

const KEY = /^(?:[A-Za-z0-9_+=@-][A-Za-z0-9._+=@-]*)(?:\/[A-Za-z0-9_+=@-][A-Za-z0-9._+=@-]*)*$/

/** Whether a key keeps the rules above; a backend refuses any other, so that no key can leave its root. */
export function isValidKey(key: string): boolean {
  return KEY.test(key) && key.length <= 900
}

/** Whether some valid key could begin so: a listing goes only where keys can be. */
export function isValidPrefix(prefix: string): boolean {
  return prefix === '' || isValidKey(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix)
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

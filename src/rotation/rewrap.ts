import { createHash } from 'node:crypto'
import { readSealHeader, SEAL_HEADER_READ_BYTES, type Sealer } from '../archive/age.ts'
import type { StoredObject } from '../catalog/backup-record.ts'
import type { Repository } from '../catalog/repository.ts'
import { type ErrorKind, PgrecallError, reasonOf } from '../errors.ts'
import { readObject } from '../storage/storage.ts'

/** An object that keeps the header it had. */
export interface RotationFailure {
  key: string
  /** `key` where none of ours opens it, `damaged` where it is not what pgrecall wrote. */
  kind: ErrorKind
  reason: string
}

export interface RewrapCounts {
  /** Objects that got a new header, and objects that are for the present recipients already. */
  rewrapped: number
  current: number
  /** Of the new headers. */
  headerBytes: number
  failures: RotationFailure[]
}

/** What is recorded of an age header. */
export type HeaderFacts = NonNullable<StoredObject['header']>

/** Gives objects of one repository headers for its present recipients, one after the other, and counts. */
export class Rewrap {
  readonly counts: RewrapCounts = { rewrapped: 0, current: 0, headerBytes: 0, failures: [] }
  readonly #repository: Repository
  readonly #sealer: Sealer
  readonly #options: { dryRun: boolean; signal: AbortSignal }

  /** @param options with `dryRun` everything is done but writing: a secret key that is missing shows all the same */
  constructor(repository: Repository, sealer: Sealer, options: { dryRun: boolean; signal: AbortSignal }) {
    this.#repository = repository
    this.#sealer = sealer
    this.#options = options
  }

  /**
   * Sees to one object. Its content stays, and so does the sum of it: killed at any moment, the object can be read, with
   * the old keys or with the new ones.
   * @returns the header that it has from now on; undefined where that is not one for the present recipients
   * @throws PgrecallError `repository` where the store fails
   */
  async object(key: string): Promise<HeaderFacts | undefined> {
    try {
      return await this.#rewrapped(key)
    } catch (error) {
      if (!(error instanceof PgrecallError) || (error.kind !== 'key' && error.kind !== 'damaged')) throw error
      this.fail(key, error)
      return undefined
    }
  }

  /** Something that cannot be brought up to date, while the rest goes on. */
  fail(key: string, error: PgrecallError): void {
    this.counts.failures.push({ key, kind: error.kind, reason: reasonOf(error) })
  }

  async #rewrapped(key: string): Promise<HeaderFacts | undefined> {
    const { storage, keys } = this.#repository
    const { signal, dryRun } = this.#options
    const start = await startOf(this.#repository, key, signal)
    if (!start) return undefined
    const found = readSealHeader(start)
    if (!found) throw new PgrecallError('damaged', 'it does not begin with a header of age')
    const old = start.subarray(0, found.headerBytes)
    if (this.#sealer.hasSealed(found)) {
      this.counts.current++
      return factsOf(old)
    }
    const header = await keys.opener.rewrap(old, this.#sealer)
    if (!dryRun) await storage.replaceStart(key, old.length, header, { signal })
    this.counts.rewrapped++
    this.counts.headerBytes += header.length
    return factsOf(header)
  }
}

/** As much of an object as holds its header. @returns undefined where there is no such object */
export function startOf(
  { storage }: Repository,
  key: string,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  return readObject(storage, key, { range: { offset: 0, length: SEAL_HEADER_READ_BYTES }, signal })
}

function factsOf(header: Buffer): HeaderFacts {
  return { bytes: header.length, sha256: createHash('sha256').update(header).digest('hex') }
}

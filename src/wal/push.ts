import { releaseMemory } from '../archive/codec.ts'
import { type ClusterIdentity, claimIdentity, requireRepository } from '../catalog/identity.ts'
import { walKey } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { PgrecallError } from '../errors.ts'
import type { WalFile } from '../postgres/wal-file.ts'
import { readObject, type Storage } from '../storage/storage.ts'
import {
  decodeWalFile,
  type EncodedWalFile,
  encodeWalFrames,
  HEAD_READ_BYTES,
  readWalHead,
} from './stored-file.ts'
import { readWalSource } from './wal-source.ts'

export interface PushTarget {
  cluster: string
  repositories: readonly Repository[]
  /** zstd level. */
  level: number
  signal?: AbortSignal
}

export interface PushRequest extends PushTarget {
  /** The file to archive, as PostgreSQL's `%p` gives it, made absolute. */
  path: string
}

export interface PushResult {
  name: string
  bytes: number
  sha256: string
  /** As in WalSource. */
  changedAtNs: bigint
  /** Per repository: `stored` now, or `exists` with the same bytes from an earlier push. */
  repositories: { name: string; result: 'stored' | 'exists' }[]
}

/**
 * Stores one file of `pg_wal` in every repository. When it resolves, the bytes are durable in all of them.
 * @throws PgrecallError `usage` for a file that is no WAL, `conflict` for another cluster's file or when other bytes
 *   are already stored under the name, `repository` when one cannot be written
 * @see https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-ARCHIVING-WAL
 */
export function pushWalFile(request: PushRequest): Promise<PushResult> {
  return new WalPusher(request).push(request.path)
}

/** Pushes one file after the other: what holds for all of them is looked at once, and memory is used again. */
export class WalPusher {
  readonly #target: PushTarget
  readonly #claims = new Map<string, Promise<void>>()
  #buffer: Buffer | undefined

  constructor(target: PushTarget) {
    this.#target = target
  }

  async push(path: string): Promise<PushResult> {
    const { file, plain, identity, changedAtNs } = await readWalSource(path, this.#buffer)
    if (plain.length > (this.#buffer?.length ?? 0)) this.#buffer = plain
    const encoded = encodeWalFrames(plain, this.#target.level)
    const outcomes = await Promise.allSettled(
      this.#target.repositories.map(async (repository) => {
        await this.#claim(repository, identity)
        return { name: repository.name, result: await this.#store(repository, file, encoded) }
      }),
    )
    releaseMemory(encoded.frame)
    const failure = outcomes.find((outcome) => outcome.status === 'rejected')
    if (failure) throw failure.reason
    return {
      name: file.name,
      bytes: plain.length,
      sha256: encoded.sha256,
      changedAtNs,
      repositories: outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : [])),
    }
  }

  /** Whether the repository is this cluster's. Looked at once for each cluster that a file claims to come from. */
  #claim({ name, storage }: Repository, identity: ClusterIdentity | undefined): Promise<void> {
    const key = `${name} ${identity?.systemIdentifier} ${identity?.walSegmentBytes}`
    const known = this.#claims.get(key)
    if (known) return known
    const claim = identity
      ? claimIdentity(storage, this.#target.cluster, identity, { mayMakeRepository: false })
      : requireRepository(storage)
    this.#claims.set(key, claim)
    claim.catch(() => this.#claims.delete(key))
    return claim
  }

  /** One conditional write; only where the name is taken, one small read tells whether by the same bytes. */
  async #store(
    { name, storage }: Repository,
    file: WalFile,
    { head, frame, sha256 }: EncodedWalFile,
  ): Promise<'stored' | 'exists'> {
    const { cluster, signal } = this.#target
    const key = walKey(cluster, file.name)
    const options = { ifAbsent: true, ...(signal && { signal }) }
    if ((await storage.put(key, [head, frame], options)) === 'stored') return 'stored'
    const start = await readObject(storage, key, { range: { offset: 0, length: HEAD_READ_BYTES } })
    const stored = start && readWalHead(start)
    const isWhole =
      stored?.sha256 === sha256 && (await this.#isWhole(storage, key, head.length + frame.length))
    if (isWhole) return 'exists'
    if (!stored || stored.sha256 === sha256) {
      throw new PgrecallError(
        'damaged',
        `${storage.location}/${key} is there, but is not, or not all of, what pgrecall wrote; it was not overwritten`,
        { hint: 'move the object away and let PostgreSQL archive the segment again' },
      )
    }
    throw new PgrecallError(
      'conflict',
      `${file.name} is already in repository "${name}" with other bytes (SHA-256 ${stored.sha256.slice(0, 16)}…, this file has ${sha256.slice(0, 16)}…); it was not overwritten`,
      {
        hint: 'two servers write into one archive, often after a clone or a failover: give this one a cluster name of its own, or stop the other',
      },
    )
  }

  /** Of the usual size it is believed; of another one, as another zstd makes it, it is read. */
  async #isWhole(storage: Storage, key: string, usualBytes: number): Promise<boolean> {
    if ((await storage.stat(key))?.bytes === usualBytes) return true
    const object = await readObject(storage, key, { limit: 2 ** 31 - 1 })
    try {
      return object !== undefined && decodeWalFile(object) !== undefined
    } catch {
      return false
    }
  }
}

import { basename } from 'node:path'
import { type ClusterIdentity, claimIdentity, requireRepository } from '../catalog/identity.ts'
import { walKey } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { walForms } from '../catalog/wal-object.ts'
import { parseWalFile } from '../postgres/wal-file.ts'
import { type Answer, type AwayMarks, inEveryRepository, nobodyAway } from './every-repository.ts'
import { isThere, requireSame, storeParts } from './store-parts.ts'
import { WalParts } from './wal-parts.ts'
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
  /** Per repository: `stored` now, or `exists` with the same bytes from an earlier push; an optional one may lack it. */
  repositories: Answer<'stored' | 'exists'>[]
}

/**
 * Stores one file of `pg_wal` in every repository. When it resolves, the bytes are durable in all that are required.
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
  readonly #away: AwayMarks
  readonly #claims = new Map<string, Promise<void>>()
  #buffer: Buffer | undefined

  /** @param away is shared with those who push other files in the same call */
  constructor(target: PushTarget, away = nobodyAway(target.repositories)) {
    this.#target = target
    this.#away = away
  }

  async push(path: string): Promise<PushResult> {
    const looks = this.#lookForOthers(basename(path))
    const { file, plain, identity, changedAtNs } = await readWalSource(path, this.#buffer)
    if (plain.length > (this.#buffer?.length ?? 0)) this.#buffer = plain
    const { repositories, level, signal } = this.#target
    const parts = new WalParts(file, plain, level)
    const { answers, failure, isAbandoned } = await inEveryRepository(
      repositories,
      async (repository, signal) => {
        // This comes first, as it hears the signal: a repository that hangs is left without another request.
        const other = await (looks.get(repository) ?? this.#hasOther(repository, file.name, signal))
        await this.#claim(repository, identity)
        return this.#store(repository, parts, other, signal)
      },
      { signal, away: this.#away },
    )
    // Whoever was given up may come back, and must not store what is another file's by then.
    if (isAbandoned) this.#buffer = undefined
    else await parts.release()
    if (failure) throw failure.error
    const { sha256 } = parts
    return { name: file.name, bytes: plain.length, sha256, changedAtNs, repositories: answers }
  }

  /** Asks the required repositories for the other form: they answer while the file is read and compressed. */
  #lookForOthers(name: string): Map<Repository, Promise<boolean>> {
    const looks = new Map<Repository, Promise<boolean>>()
    if (!parseWalFile(name)) return looks
    for (const repository of this.#target.repositories.filter(({ required }) => required)) {
      const look = this.#hasOther(repository, name, this.#target.signal)
      // Nobody asks for it when the file cannot be read.
      look.catch(() => {})
      looks.set(repository, look)
    }
    return looks
  }

  /** Whether a file is stored in the form that a repository is not configured for: from before it was, or by another host. */
  #hasOther(repository: Repository, name: string, signal: AbortSignal | undefined): Promise<boolean> {
    return isThere(repository.storage, walKey(this.#target.cluster, name, walForms(repository)[1]), signal)
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

  async #store(
    repository: Repository,
    parts: WalParts,
    other: boolean,
    signal: AbortSignal | undefined,
  ): Promise<'stored' | 'exists'> {
    const { cluster } = this.#target
    const [form, otherForm] = walForms(repository)
    if (!other && (await storeParts(repository, cluster, parts, signal)) === 'stored') return 'stored'
    await requireSame(repository, cluster, parts, other ? otherForm : form, signal)
    return 'exists'
  }
}

import type { Sealer } from '../archive/age.ts'
import { releaseMemory } from '../archive/codec.ts'
import type { Repository } from '../catalog/repository.ts'
import { historyNotes } from '../catalog/stored-history.ts'
import type { WalFile } from '../postgres/wal-file.ts'
import { type EncodedWalFile, encodeWalFrames } from './stored-file.ts'
import { sumNote, sumOf } from './stored-sum.ts'

/** A file of `pg_wal` as it is stored: compressed once, and encrypted once for each set of recipients. */
export class WalParts {
  readonly file: WalFile
  readonly plain: Buffer
  readonly #encoded: EncodedWalFile
  readonly #sealed = new Map<string, Promise<readonly Buffer[]>>()

  /** @param level zstd's */
  constructor(file: WalFile, plain: Buffer, level: number) {
    this.file = file
    this.plain = plain
    this.#encoded = encodeWalFrames(plain, level)
  }

  /** Of the plain bytes, hexadecimal. */
  get sha256(): string {
    return this.#encoded.sha256
  }

  /** The object without encryption, in its two parts. */
  get frames(): readonly Buffer[] {
    return [this.#encoded.head, this.#encoded.frame]
  }

  /** What a repository gets, in the form that it is configured for. */
  partsFor({ keys: { sealer } }: Repository): readonly Buffer[] | Promise<readonly Buffer[]> {
    if (!sealer) return this.frames
    const recipients = sealer.recipients.toSorted().join(' ')
    const known = this.#sealed.get(recipients)
    if (known) return known
    const sealed = this.#seal(sealer)
    this.#sealed.set(recipients, sealed)
    return sealed
  }

  async #seal(sealer: Sealer): Promise<readonly Buffer[]> {
    const { file, plain, frames } = this
    const sum = sumNote(plain, bytesOf(frames))
    const way = file.kind === 'history' ? historyNotes(plain.toString('utf8'), file.timeline) : []
    const seal = await sealer.seal([sum, ...way])
    return [seal.header, seal.encryptWhole(frames)]
  }

  /** As in a StoredSum. */
  sumWith(salt: Buffer): string {
    return salt.length === 0 ? this.sha256 : sumOf(this.plain, salt)
  }

  /** Gives the memory back, once nobody reads the parts any more. */
  async release(): Promise<void> {
    releaseMemory(this.#encoded.frame)
    for (const sealed of await Promise.allSettled(this.#sealed.values())) {
      if (sealed.status === 'fulfilled') releaseMemory(sealed.value.at(-1)!)
    }
  }
}

export function bytesOf(parts: readonly Buffer[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0)
}

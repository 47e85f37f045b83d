import { existsSync } from 'node:fs'
import { readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { readSealHeader, SEAL_HEADER_READ_BYTES } from '../archive/age.ts'
import { claimIdentity } from '../catalog/identity.ts'
import { receivingKey, type WalForm } from '../catalog/layout.ts'
import type { Repository } from '../catalog/repository.ts'
import { walForms } from '../catalog/wal-object.ts'
import { PgrecallError, systemCode } from '../errors.ts'
import type { WalFile } from '../postgres/wal-file.ts'
import { describeSegmentMismatch, readSegmentHeader } from '../postgres/wal-page.ts'
import { readObject } from '../storage/storage.ts'
import { pushWalFile } from './push.ts'
import type { ReceivedFiles, ReceivedSegment } from './received-files.ts'
import { decodeWalFile, encodeWalFrames, MAX_WAL_BYTES } from './stored-file.ts'

export interface DepositOptions {
  directory: string
  cluster: string
  repository: Repository
  /** zstd level. */
  level: number
  /** How often the unfinished segment is stored, milliseconds. */
  intervalMs: number
  onStored: (file: StoredFile) => void
}

/** Something that is durable in a repository now. */
export interface StoredFile {
  repository: string
  name: string
  /** Plain bytes: of an unfinished segment, those that hold WAL. */
  bytes: number
  isWhole: boolean
}

/** What one repository has of what was received. Each has its own, so that one that is away holds up no other. */
export class ReceivedDeposit {
  readonly #options: DepositOptions
  /** Whole files, as long as they are in the folder. */
  readonly #stored = new Set<string>()
  /** Unfinished segments, as far as they are stored. */
  readonly #unfinished = new Map<string, Unfinished>()
  #lookedAt = Number.NEGATIVE_INFINITY

  constructor(options: DepositOptions) {
    this.#options = options
  }

  get repository(): Repository {
    return this.#options.repository
  }

  /** Whether the repository has all that a file holds now. */
  async has({ name, kind }: WalFile): Promise<boolean> {
    if (kind !== 'partial') return this.#stored.has(name)
    const path = join(this.#options.directory, name)
    const now = await stat(path, { bigint: true }).catch(() => undefined)
    return now !== undefined && now.mtimeNs === this.#unfinished.get(name)?.changedAtNs
  }

  /**
   * Stores what is whole and, when it is time, what the unfinished segments hold by now.
   * @param options `all` does not wait for the time
   * @throws PgrecallError as `pushWalFile`
   */
  async store(files: ReceivedFiles, options: { all: boolean; signal?: AbortSignal }): Promise<void> {
    const names = new Set([...files.histories, ...files.segments].map(({ name }) => name))
    for (const name of this.#stored) if (!names.has(name)) this.#stored.delete(name)
    await this.storeHistories(files, options.signal)
    for (const { name, kind } of files.segments) {
      if (kind === 'segment') await this.#storeWhole(name, options.signal)
    }
    if (!options.all && performance.now() - this.#lookedAt < this.#options.intervalMs) return
    for (const segment of files.segments) {
      if (segment.kind === 'partial') await this.#storeUnfinished(segment, options.signal)
    }
    this.#lookedAt = performance.now()
  }

  /** Whoever reads the archive must know a timeline before WAL of it. */
  async storeHistories({ histories }: ReceivedFiles, signal?: AbortSignal): Promise<void> {
    for (const { name } of histories) await this.#storeWhole(name, signal)
  }

  /** What the archive_command of the server stored already counts too. */
  async #storeWhole(name: string, signal: AbortSignal | undefined): Promise<void> {
    if (this.#stored.has(name)) return
    const { directory, cluster, repository, level, onStored } = this.#options
    const path = join(directory, name)
    const pushed = await pushWalFile({
      path,
      cluster,
      // Here each repository has its own errors, and who deals with them knows whether it is optional.
      repositories: [{ ...repository, required: true }],
      level,
      ...(signal && { signal }),
    }).catch((error) => {
      // Set aside meanwhile: from there it is stored.
      if (existsSync(path)) throw error
    })
    if (!pushed) return
    const { bytes, repositories } = pushed
    if (!name.endsWith('.history')) await this.#removeBeginning(name, walForms(repository))
    this.#unfinished.delete(`${name}.partial`)
    this.#stored.add(name)
    if (repositories[0]!.result === 'stored')
      onStored({ repository: repository.name, name, bytes, isWhole: true })
  }

  /** Beside a whole segment it means nothing, so that a host which may not delete leaves it. */
  async #removeBeginning(segment: string, forms: readonly WalForm[]): Promise<void> {
    const { cluster, repository } = this.#options
    for (const form of forms) {
      const key = receivingKey(cluster, segment, form)
      if (await repository.storage.stat(key)) await repository.storage.remove(key).catch(() => {})
    }
  }

  async #storeUnfinished(segment: ReceivedSegment, signal: AbortSignal | undefined): Promise<void> {
    const { directory } = this.#options
    const before = this.#unfinished.get(segment.name)
    const read = await readUnfinished(join(directory, segment.name), segment, before?.changedAtNs)
    if (!read) return
    const { plain, changedAtNs } = read
    const bytes = usedBytes(plain)
    const stored =
      bytes === 0 ? undefined : await this.#putUnfinished(segment, plain, bytes, before?.stored, signal)
    this.#unfinished.set(segment.name, { stored, changedAtNs })
  }

  /** @param before what this run stored of it last @returns the same for the next time */
  async #putUnfinished(
    segment: ReceivedSegment,
    plain: Buffer,
    bytes: number,
    before: string | undefined,
    signal: AbortSignal | undefined,
  ): Promise<string | undefined> {
    const { cluster, repository, level, onStored } = this.#options
    const { head, frame, sha256 } = encodeWalFrames(plain, level)
    if (sha256 === before) return before
    const whole = segment.name.slice(0, -'.partial'.length)
    const [form, otherForm] = walForms(repository)
    // Each time: a folder that is not mounted any more must not be filled.
    await this.#claim(plain)
    if (before === undefined && (await this.#reachesFarther(whole, plain, bytes, signal))) return undefined
    const parts = await this.#beginningParts([head, frame], bytes)
    await repository.storage.put(receivingKey(cluster, whole, form), parts, signal && { signal })
    if (before === undefined) await this.#removeBeginning(whole, [otherForm])
    onStored({ repository: repository.name, name: segment.name, bytes, isWhole: false })
    return sha256
  }

  async #claim(plain: Buffer): Promise<void> {
    const { systemIdentifier, segmentBytes } = readSegmentHeader(plain)!
    const { cluster, repository } = this.#options
    const identity = { systemIdentifier, walSegmentBytes: segmentBytes }
    await claimIdentity(repository.storage, cluster, identity, { mayMakeRepository: false })
  }

  /** Encrypted, its header tells how far it reaches. */
  async #beginningParts(frames: readonly Buffer[], bytes: number): Promise<readonly Buffer[]> {
    const { sealer } = this.repository.keys
    if (!sealer) return frames
    const seal = await sealer.seal([{ name: REACH_NOTE, args: [String(bytes)] }])
    return [seal.header, seal.encryptWhole(frames)]
  }

  /** After the folder was lost, a segment is received from its beginning again: until then, the repository has more. */
  async #reachesFarther(
    segment: string,
    plain: Buffer,
    bytes: number,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const { storage } = this.repository
    const { cluster } = this.#options
    const options = signal ? { signal } : {}
    const range = { offset: 0, length: SEAL_HEADER_READ_BYTES }
    const start = await readObject(storage, receivingKey(cluster, segment, 'sealed'), { ...options, range })
    const reach = start && readSealHeader(start)?.notes.find(({ name }) => name === REACH_NOTE)?.args[0]
    if (Number(reach ?? 0) > bytes) return true
    const key = receivingKey(cluster, segment, 'plain')
    const object = await readObject(storage, key, { ...options, limit: MAX_WAL_BYTES })
    if (!object) return false
    try {
      const stored = decodeWalFile(object)
      return usedBytes(stored) > bytes && stored.subarray(0, bytes).equals(plain.subarray(0, bytes))
    } catch {
      return false
    }
  }
}

/** How many bytes of a segment that is being received hold WAL. */
const REACH_NOTE = 'received'

interface Unfinished {
  /** SHA-256 of what was stored; undefined while nothing had to be. */
  stored: string | undefined
  /** The local file's time of change when it was read. */
  changedAtNs: bigint
}

/**
 * @returns undefined when there is nothing new, or the segment has become whole in the meantime
 * @throws PgrecallError `damaged` when it is not what its name says
 */
async function readUnfinished(
  path: string,
  segment: ReceivedSegment,
  knownNs: bigint | undefined,
): Promise<{ plain: Buffer; changedAtNs: bigint } | undefined> {
  try {
    const { mtimeNs } = await stat(path, { bigint: true })
    if (mtimeNs === knownNs) return undefined
    const plain = await readFile(path)
    if (usedBytes(plain) === 0) return { plain, changedAtNs: mtimeNs }
    const mismatch = describeSegmentMismatch(segment, plain)
    if (!mismatch) return { plain, changedAtNs: mtimeNs }
    throw new PgrecallError('damaged', `${mismatch}; nothing was stored`, {
      hint: `end what else writes into the folder, or move ${path} away: the server sends the segment again`,
    })
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
}

const ZEROS = Buffer.alloc(64 * 1024)

/** Without the zeros at the end. */
export function usedBytes(segment: Buffer): number {
  let end = segment.length
  while (end > 0) {
    const begin = Math.max(0, end - ZEROS.length)
    if (!segment.subarray(begin, end).equals(ZEROS.subarray(0, end - begin))) break
    end = begin
  }
  while (end > 0 && segment[end - 1] === 0) end--
  return end
}

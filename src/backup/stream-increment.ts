import type { TarMember } from '../archive/tar.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import { decodeIncrementalHeader, type IncrementalStart, originalName } from '../postgres/incremental-file.ts'
import { relationFork } from '../postgres/relation-file.ts'
import type { ClusterFacts } from '../postgres/server.ts'
import type { FileObserver, SeenFile } from './stream-members.ts'

/** What has to be known to read an incremental file. */
export type RelationFacts = Pick<ClusterFacts, 'blockBytes' | 'relationSegmentBlocks'>

/** The path of the relation's file that a member of an incremental backup stands for; undefined where it is a file itself. */
export function incrementedFile({ path, type }: TarMember): string | undefined {
  const original = type === 'file' ? originalName(path) : undefined
  return original !== undefined && relationFork(original) ? original : undefined
}

/**
 * An `INCREMENTAL.*` file on its way into a shard: its header is read as it passes, so that the length of the whole
 * file is known, and its blocks can be looked at as what they are.
 */
export class ArrivingIncrement implements FileObserver {
  readonly #member: TarMember
  readonly #facts: RelationFacts
  readonly #pages: FileObserver | undefined
  #header: Buffer = Buffer.alloc(0)
  #start: Required<IncrementalStart> | undefined

  /** @param pages sees the blocks, at the positions that they have in the relation's file */
  constructor(member: TarMember, facts: RelationFacts, pages: FileObserver | undefined) {
    this.#member = member
    this.#facts = facts
    this.#pages = pages
  }

  take(bytes: Buffer, position: number): void {
    const start = this.#start ?? this.#readHeader(bytes)
    if (!start) return
    const skipped = Math.max(0, start.headerBytes - position)
    if (this.#pages) this.#takeBlocks(bytes.subarray(skipped), position + skipped - start.headerBytes, start)
  }

  /** @throws PgrecallError `damaged` when it is not all there */
  end(): SeenFile {
    if (!this.#start) throw this.#fault('its header does not come to an end')
    const { blocks, truncationBlocks } = this.#start
    const length = blocks.reduce((most, block) => Math.max(most, block + 1), truncationBlocks)
    return {
      ...this.#pages?.end(),
      fileSize: length * this.#facts.blockBytes,
      changedBlocks: blocks.length,
    }
  }

  /** @returns what the header says, once it is all there */
  #readHeader(bytes: Buffer): Required<IncrementalStart> | undefined {
    this.#header = Buffer.concat([this.#header, bytes])
    const start = this.#decode()
    if (!start?.blocks) return undefined
    const { blocks, blockCount, headerBytes } = start
    if (this.#member.size !== headerBytes + blockCount * this.#facts.blockBytes)
      throw this.#fault(`it has not the length that its ${blockCount} blocks need`)
    this.#header = Buffer.alloc(0)
    this.#start = { ...start, blocks }
    return this.#start
  }

  #decode(): IncrementalStart | undefined {
    const { blockBytes, relationSegmentBlocks } = this.#facts
    try {
      return decodeIncrementalHeader(this.#header, blockBytes, relationSegmentBlocks)
    } catch (error) {
      throw this.#fault(reasonOf(error))
    }
  }

  /** Hands on one run of adjacent blocks after the other. @param at bytes of blocks that came before */
  #takeBlocks(bytes: Buffer, at: number, { blocks }: Required<IncrementalStart>): void {
    const { blockBytes } = this.#facts
    for (let taken = 0; taken < bytes.length; ) {
      const first = Math.floor((at + taken) / blockBytes)
      const within = (at + taken) % blockBytes
      let count = 1
      while (blocks[first + count] === blocks[first]! + count) count++
      const run = bytes.subarray(taken, taken + count * blockBytes - within)
      this.#pages!.take(run, blocks[first]! * blockBytes + within)
      taken += run.length
    }
  }

  #fault(what: string): PgrecallError {
    return new PgrecallError(
      'damaged',
      `${this.#member.path} did not arrive as an incremental file: ${what}`,
      {
        hint: 'take the backup again; if it happens again, take a whole one with --type full',
      },
    )
  }
}

import { readSync } from 'node:fs'
import { encodeIncrementalHeader } from '../postgres/incremental-file.ts'
import { lsn } from '../postgres/lsn.ts'
import { changedPages } from '../postgres/page-lsns.ts'
import type { FileChange } from './file-changes.ts'

/** Of a file of which more has changed, all is taken, as PostgreSQL does. */
const MOST_CHANGED = 0.9
const SCAN_BYTES = 1024 * 1024

/** A relation's file while its changed blocks are copied. */
export interface IncrementSource {
  file: number
  /** Bytes when it was opened. */
  size: number
  blockBytes: number
  /** Hears of bytes before they are read; may throw to stop. */
  beforeRead: (count: number) => void
}

/**
 * Finds out which blocks of a file go into an incremental backup.
 * @param scratch what pages are read into, to look at their LSNs
 * @returns ascending; undefined where the whole file has to be taken
 */
export function blocksToTake(
  source: IncrementSource,
  change: FileChange,
  scratch: () => Buffer,
): Uint32Array | undefined {
  const { size, blockBytes } = source
  if (size === 0 || size % blockBytes !== 0) return undefined
  const total = size / blockBytes
  const blocks = change.kind === 'blocks' ? withTail(change, total) : changedSince(source, change, scratch())
  return blocks.length <= total * MOST_CHANGED ? blocks : undefined
}

/** @param total blocks that the file has now */
function withTail({ blocks, limit }: FileChange & { kind: 'blocks' }, total: number): Uint32Array {
  const end = Math.min(limit ?? total, total)
  const marked = blocks.filter((block) => block < end)
  const all = new Uint32Array(marked.length + total - end)
  all.set(marked)
  for (let block = end, at = marked.length; block < total; block++, at++) all[at] = block
  return all
}

function changedSince(
  { file, size, blockBytes, beforeRead }: IncrementSource,
  { since }: FileChange & { kind: 'pages' },
  scratch: Buffer,
): Uint32Array {
  const first = lsn(since)
  const changed: number[] = []
  for (let position = 0; position < size; ) {
    const wanted = Math.min(scratch.length, size - position)
    beforeRead(wanted)
    const pages = Math.floor(readSync(file, scratch, 0, wanted, position) / blockBytes)
    // Cut since it was opened: replay repeats that, and what is gone needs no copy.
    if (pages === 0) break
    const firstBlock = position / blockBytes
    changedPages(scratch.subarray(0, pages * blockBytes), blockBytes, first, (index) => {
      changed.push(firstBlock + index)
    })
    position += pages * blockBytes
  }
  return Uint32Array.from(changed)
}

/** For `blocksToTake`. */
export const newScratch = () => Buffer.allocUnsafeSlow(SCAN_BYTES)

/**
 * The content of an `INCREMENTAL.*` file, read from the relation's file where it is asked for.
 * @see incremental-file.ts
 */
export class IncrementContent {
  readonly #source: IncrementSource
  readonly #header: Buffer
  readonly #blocks: Uint32Array
  readonly size: number
  #given = 0

  constructor(source: IncrementSource, blocks: Uint32Array) {
    this.#source = source
    this.#blocks = blocks
    const truncationBlocks = source.size / source.blockBytes
    this.#header = encodeIncrementalHeader({ truncationBlocks, blocks }, source.blockBytes)
    this.size = this.#header.length + blocks.length * source.blockBytes
  }

  /**
   * Writes the next bytes into the room: of the header, or of blocks that lie one behind the other in the file.
   * @param onPages sees bytes of blocks, and where in the file they are
   * @returns how many bytes, at least one
   */
  read(room: Buffer, onPages: (bytes: Buffer, position: number) => void): number {
    const given =
      this.#given < this.#header.length
        ? this.#header.copy(room, 0, this.#given)
        : this.#readRun(room, onPages)
    this.#given += given
    return given
  }

  #readRun(room: Buffer, onPages: (bytes: Buffer, position: number) => void): number {
    const { file, blockBytes, beforeRead } = this.#source
    const at = this.#given - this.#header.length
    const first = Math.floor(at / blockBytes)
    const within = at % blockBytes
    let blocks = 1
    while (
      blocks * blockBytes - within < room.length &&
      this.#blocks[first + blocks] === this.#blocks[first]! + blocks
    )
      blocks++
    const position = this.#blocks[first]! * blockBytes + within
    const bytes = room.subarray(0, Math.min(room.length, blocks * blockBytes - within))
    beforeRead(bytes.length)
    let read = 0
    while (read < bytes.length) {
      const more = readSync(file, bytes, read, bytes.length - read, position + read)
      if (more === 0) break
      read += more
    }
    // Truncated while it was read; replay repeats the truncation.
    bytes.fill(0, read)
    onPages(bytes, position)
    return bytes.length
  }
}

/** Bytes of a block, as servers are built unless somebody wants another size; then the sizes of members do not fit. */
export const BLOCK_BYTES = 8192

/** What is known of an increment from its header. */
export interface IncrementBlocks {
  truncationBlocks: number
  /** Ascending. */
  blocks: Uint32Array
  /** As in Increment. */
  cutAt: number
}

/** Where a block comes from: the whole copy, nowhere, or the increment with this number, of which 0 is the newest. */
export const FROM_WHOLE = 0xffff
export const ZEROS = 0xfffe

/**
 * Says for each block of a file where it comes from. Pure.
 *
 * A block is the newest link's that has it. A link that has it not, and says that its file ended before it, hides what
 * is below: the block was cut off, and is zeros if the file grew past it again.
 *
 * @param increments newest first
 * @param above what the links above the newest increment say: `length` in blocks, or undefined where there is none
 * @see src/bin/pg_combinebackup/reconstruct.c: reconstruct_from_incremental_file
 */
export function sourcesOfBlocks(
  increments: readonly IncrementBlocks[],
  above: { length: number | undefined; cutAt: number },
): Uint16Array {
  const sources = new Uint16Array(above.length ?? lengthOf(increments[0]!)).fill(FROM_WHOLE)
  for (let number = increments.length - 1; number >= 0; number--) {
    const { truncationBlocks, blocks, cutAt } = increments[number]!
    sources.fill(ZEROS, Math.min(truncationBlocks, cutAt))
    for (const block of blocks) if (block < sources.length) sources[block] = number
  }
  return sources.fill(ZEROS, Math.min(above.cutAt, sources.length))
}

/** A file that lost blocks while it was copied still has those that were read before. */
function lengthOf({ truncationBlocks, blocks }: IncrementBlocks): number {
  return Math.max(truncationBlocks, (blocks.at(-1) ?? -1) + 1)
}

/** Neighbours that come from the same place. @property from the first block @property to the one behind the last */
export interface BlockRun {
  source: number
  from: number
  to: number
}

export function* runsOf(sources: Uint16Array): Generator<BlockRun> {
  for (let from = 0; from < sources.length; ) {
    const source = sources[from]!
    let to = from + 1
    while (to < sources.length && sources[to] === source) to++
    yield { source, from, to }
    from = to
  }
}

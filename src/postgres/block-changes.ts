/** A relation in a tablespace of a database; by its file number, which is 0 for the database as a whole. */
export interface ChangedRelation {
  /** The oid of its tablespace: 1663 for `pg_default`, 1664 for `pg_global`. */
  space: number
  /** The oid of its database; 0 for what all share. */
  database: number
  relation: number
}

/** What changed in one segment. Numbers are in blocks, counted from the segment's beginning. */
export interface SegmentChanges {
  /**
   * The shortest length that it had meanwhile: from here on, whatever the blocks were before is gone, also where
   * they are not marked. Absent where it was never cut.
   */
  limit?: number
  /** Ascending. */
  blocks: Uint32Array
}

/**
 * The blocks of relations' main forks that changed in a range of WAL, collected from any number of its summaries in
 * any order. Takes about one bit for each block up to the last that changed, in the segments that have one: 16 MB for
 * each TB.
 * @see src/common/blkreftable.c, which keeps the same facts, and says what a limit block is
 */
export class BlockChanges {
  readonly #segmentBlocks: number
  readonly #relations = new Map<string, { limit: number; segments: Map<number, BlockSet> }>()
  readonly #wholeDatabases = new Set<string>()

  /** @param segmentBlocks the blocks in one file of a relation */
  constructor(segmentBlocks: number) {
    this.#segmentBlocks = segmentBlocks
  }

  /** Notes blocks as changed; they count from the start of the relation, across its segments. */
  mark(relation: ChangedRelation, blocks: Iterable<number>): void {
    const entry = this.#entry(relation)
    if (!entry) return
    for (const block of blocks) {
      const segment = Math.floor(block / this.#segmentBlocks)
      let set = entry.segments.get(segment)
      if (!set) {
        set = new BlockSet()
        entry.segments.set(segment, set)
      }
      set.add(block - segment * this.#segmentBlocks)
    }
  }

  /** Notes that the relation was that short meanwhile; 0 when it was created or dropped. */
  limit(relation: ChangedRelation, block: number): void {
    const entry = this.#entry(relation)
    if (entry) entry.limit = Math.min(entry.limit, block)
  }

  /** Whether a relation was cut in the midst of a segment; one that was cut to nothing is not counted. */
  get hasCuts(): boolean {
    return [...this.#relations.values()].some(
      ({ limit }) => Number.isFinite(limit) && limit % this.#segmentBlocks !== 0,
    )
  }

  /** What changed in a segment; `whole` when its database came to be meanwhile, as a copy of files. */
  of(file: ChangedRelation & { segment: number }): SegmentChanges | 'whole' {
    if (this.#wholeDatabases.has(databaseKey(file))) return 'whole'
    const entry = this.#relations.get(relationKey(file))
    const blocks = entry?.segments.get(file.segment)?.ascending() ?? new Uint32Array()
    const limit = (entry?.limit ?? Number.POSITIVE_INFINITY) - file.segment * this.#segmentBlocks
    return limit < this.#segmentBlocks ? { limit: Math.max(limit, 0), blocks } : { blocks }
  }

  #entry(relation: ChangedRelation) {
    if (relation.relation === 0) {
      this.#wholeDatabases.add(databaseKey(relation))
      return undefined
    }
    const key = relationKey(relation)
    let entry = this.#relations.get(key)
    if (!entry) {
      entry = { limit: Number.POSITIVE_INFINITY, segments: new Map() }
      this.#relations.set(key, entry)
    }
    return entry
  }
}

const databaseKey = ({ space, database }: ChangedRelation) => `${space}/${database}`
const relationKey = ({ space, database, relation }: ChangedRelation) => `${space}/${database}/${relation}`

/** A set of small numbers, one bit for each up to the largest. */
class BlockSet {
  #words = new Uint32Array(2)
  #size = 0

  add(block: number): void {
    const word = block >>> 5
    if (word >= this.#words.length) {
      const larger = new Uint32Array(Math.max(word + 1, this.#words.length * 2))
      larger.set(this.#words)
      this.#words = larger
    }
    const bit = 1 << (block & 31)
    if ((this.#words[word]! & bit) !== 0) return
    this.#words[word]! |= bit
    this.#size++
  }

  ascending(): Uint32Array {
    const blocks = new Uint32Array(this.#size)
    let at = 0
    this.#words.forEach((bits, word) => {
      // The lowest bit that is set, and then without it.
      for (let left = bits; left !== 0; left &= left - 1) {
        blocks[at++] = word * 32 + (31 - Math.clz32(left & -left))
      }
    })
    return blocks
  }
}

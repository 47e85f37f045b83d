import { FIRST_ROOM, SumColumn, withRoom } from './columns.ts'

/** A member of a shard that holds the changed blocks of a file. */
export interface Increment {
  /** The number of the shard. */
  shard: number
  offset: number
  size: number
  /** Of the member, hexadecimal. */
  sha256: string
  /** Bytes of the file when the member was made. */
  fileSize: number
  /** Of this block and those behind it nothing counts that lies in links below. */
  cutAt: number
}

/** A file of the newest link: its newest whole copy, and what has changed since. */
export interface FinalMember {
  /** In its group. */
  path: string
  /** In the newest link. */
  modifiedMs: number
  /** Bytes of the file as the newest link's index has them. */
  fileBytes: number
  /** The place of the whole copy in its shard. */
  offset: number
  size: number
  /** Of the whole copy, hexadecimal. */
  sha256: string
  /** Blocks of the file, where the newest link has no block of it; else NO_BLOCK: then its increment tells. */
  length: number
  /** As of an increment, for the links above the newest one that has blocks. */
  cutAt: number
  /** Those that have blocks, newest first. */
  increments: Increment[]
  /** Whether the newest link has it whole. */
  isWhole: boolean
}

/** No block has this number. */
export const NO_BLOCK = 0xffff_ffff
const NONE = -1

/**
 * The files of the newest link with the places of all that they are made of. It takes up to 200 bytes for a file, its path
 * included, and up to 140 for an increment with blocks: 200 MB for a million files of which few have changed.
 */
export class FileTable {
  readonly #numbers = new Map<string, number>()
  #columns = {
    modifiedMs: new Float64Array(FIRST_ROOM),
    fileBytes: new Float64Array(FIRST_ROOM),
    shard: new Int32Array(FIRST_ROOM),
    offset: new Float64Array(FIRST_ROOM),
    size: new Float64Array(FIRST_ROOM),
    length: new Uint32Array(FIRST_ROOM),
    cutAt: new Uint32Array(FIRST_ROOM),
    newest: new Int32Array(FIRST_ROOM),
    oldest: new Int32Array(FIRST_ROOM),
    seenIn: new Uint16Array(FIRST_ROOM),
  }
  readonly #sums = new SumColumn()
  readonly #increments = new IncrementTable()

  get count(): number {
    return this.#numbers.size
  }

  /** By their paths in the cluster. */
  get numbers(): ReadonlyMap<string, number> {
    return this.#numbers
  }

  /** @param path in the cluster @param fileBytes of the whole file */
  add(path: string, { modifiedMs, fileBytes }: Pick<FinalMember, 'modifiedMs' | 'fileBytes'>): number {
    const number = this.#numbers.size
    this.#columns = withRoom(this.#columns, number)
    this.#numbers.set(path, number)
    const columns = this.#columns
    columns.modifiedMs[number] = modifiedMs
    columns.fileBytes[number] = fileBytes
    columns.shard[number] = NONE
    columns.length[number] = NO_BLOCK
    columns.cutAt[number] = NO_BLOCK
    columns.newest[number] = NONE
    columns.oldest[number] = NONE
    return number
  }

  /** Notes that a link has a file. @param link from 1 on */
  see(number: number, link: number): void {
    this.#columns.seenIn[number] = link
  }

  isSeen(number: number, link: number): boolean {
    return this.#columns.seenIn[number] === link
  }

  /** The number of the shard with the newest whole copy; undefined as long as it was not found. */
  shardOf(number: number): number | undefined {
    const shard = this.#columns.shard[number]!
    return shard === NONE ? undefined : shard
  }

  offsetOf(number: number): number {
    return this.#columns.offset[number]!
  }

  fileBytesOf(number: number): number {
    return this.#columns.fileBytes[number]!
  }

  setWhole(number: number, shard: number, { offset, size, sha256 }: Place): void {
    this.#columns.shard[number] = shard
    this.#columns.offset[number] = offset
    this.#columns.size[number] = size
    this.#sums.set(number, sha256)
  }

  /** Adds the increment of a link that is below all that were added. */
  addIncrement(number: number, increment: Omit<Increment, 'cutAt'>): void {
    const { newest, oldest } = this.#columns
    const added = this.#increments.add(increment, oldest[number]!)
    if (newest[number] === NONE) newest[number] = added
    oldest[number] = added
  }

  /** The same for one without blocks. @param length in blocks, at which it cuts off what lies below */
  addEmptyIncrement(number: number, length: number): void {
    const { length: lengths, cutAt, oldest } = this.#columns
    if (oldest[number] !== NONE) this.#increments.cut(oldest[number]!, length)
    else {
      if (lengths[number] === NO_BLOCK) lengths[number] = length
      cutAt[number] = Math.min(cutAt[number]!, length)
    }
  }

  /** @param path in its group @param isWhole as in FinalMember */
  member(number: number, path: string, isWhole: boolean): FinalMember {
    const columns = this.#columns
    return {
      path,
      modifiedMs: columns.modifiedMs[number]!,
      fileBytes: columns.fileBytes[number]!,
      offset: columns.offset[number]!,
      size: columns.size[number]!,
      sha256: this.#sums.get(number),
      length: columns.length[number]!,
      cutAt: columns.cutAt[number]!,
      increments: this.#increments.from(columns.newest[number]!),
      isWhole,
    }
  }
}

/** Increments of one file after the other, each with the number of the one below it. */
class IncrementTable {
  #count = 0
  #columns = {
    below: new Int32Array(FIRST_ROOM),
    shard: new Int32Array(FIRST_ROOM),
    offset: new Float64Array(FIRST_ROOM),
    size: new Float64Array(FIRST_ROOM),
    fileSize: new Float64Array(FIRST_ROOM),
    cutAt: new Uint32Array(FIRST_ROOM),
  }
  readonly #sums = new SumColumn()

  add({ shard, offset, size, fileSize, sha256 }: Omit<Increment, 'cutAt'>, above: number): number {
    const number = this.#count++
    this.#columns = withRoom(this.#columns, number)
    const columns = this.#columns
    columns.below[number] = NONE
    columns.shard[number] = shard
    columns.offset[number] = offset
    columns.size[number] = size
    columns.fileSize[number] = fileSize
    columns.cutAt[number] = NO_BLOCK
    this.#sums.set(number, sha256)
    if (above !== NONE) columns.below[above] = number
    return number
  }

  cut(number: number, at: number): void {
    this.#columns.cutAt[number] = Math.min(this.#columns.cutAt[number]!, at)
  }

  from(newest: number): Increment[] {
    const columns = this.#columns
    const list: Increment[] = []
    for (let number = newest; number !== NONE; number = columns.below[number]!) {
      list.push({
        shard: columns.shard[number]!,
        offset: columns.offset[number]!,
        size: columns.size[number]!,
        sha256: this.#sums.get(number),
        fileSize: columns.fileSize[number]!,
        cutAt: columns.cutAt[number]!,
      })
    }
    return list
  }
}

type Place = Pick<FinalMember, 'offset' | 'size' | 'sha256'>

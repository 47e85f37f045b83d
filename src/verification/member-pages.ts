import { decodeIncrementalHeader, originalName } from '../postgres/incremental-file.ts'
import { type Lsn, lsn } from '../postgres/lsn.ts'
import type { PageChecker } from '../postgres/page-checksum.ts'
import { DEFAULT_BLOCKS_PER_SEGMENT, relationSegment } from '../postgres/relation-file.ts'

/** Between which positions a page can have been written while its file was copied. */
export interface PageTimes {
  startLsn: string
  stopLsn: string
}

/**
 * Looks at the pages of one file of a shard, whole or `INCREMENTAL.<name>`, as they pass by. A wrong page that was written during
 * the backup is none: the file was read at that moment, and replay puts the whole page there.
 */
export class MemberPages {
  readonly #checker: PageChecker
  readonly #start: Lsn
  readonly #stop: Lsn
  readonly #isIncremental: boolean
  readonly #hasChecksums: boolean
  /** The block that the file begins with. */
  readonly #firstBlock: number
  #header: Buffer | undefined
  #blocks: Uint32Array | undefined
  /** Bytes in the checker's buffer, and pages before them. */
  #bytes = 0
  #pages = 0
  #wrong = 0
  #firstWrong: number | undefined

  private constructor(
    checker: PageChecker,
    file: { segment: number; isIncremental: boolean; hasChecksums: boolean },
    times: PageTimes,
  ) {
    this.#checker = checker
    this.#firstBlock = file.segment * DEFAULT_BLOCKS_PER_SEGMENT
    this.#isIncremental = file.isIncremental
    this.#hasChecksums = file.hasChecksums
    this.#header = file.isIncremental ? Buffer.alloc(0) : undefined
    this.#start = lsn(times.startLsn)
    this.#stop = lsn(times.stopLsn)
  }

  /**
   * @param path in its group
   * @param hasChecksums without them only an incremental file has something to look at
   * @returns undefined for what has no pages
   */
  static of(
    checker: PageChecker,
    path: string,
    hasChecksums: boolean,
    times: PageTimes,
  ): MemberPages | undefined {
    const original = originalName(path)
    const segment = relationSegment(original ?? path)
    if (segment === undefined || (!hasChecksums && original === undefined)) return undefined
    return new MemberPages(checker, { segment, isIncremental: original !== undefined, hasChecksums }, times)
  }

  /** @throws Error when it is no incremental file */
  push(bytes: Buffer): void {
    const pages = this.#header ? this.#pastHeader(bytes) : bytes
    const { buffer } = this.#checker
    for (let at = 0; at < pages.length; ) {
      const copied = pages.copy(buffer, this.#bytes, at)
      this.#bytes += copied
      at += copied
      if (this.#bytes === buffer.length) this.#flush()
    }
  }

  /** @returns what is wrong with it; undefined where nothing is */
  end(): string | undefined {
    if (this.#header) return 'it ends before the numbers of its blocks'
    this.#flush()
    if (this.#isIncremental && this.#pages !== this.#blocks!.length)
      return `it has ${this.#pages} blocks instead of ${this.#blocks!.length}`
    if (this.#wrong === 0) return undefined
    const more = this.#wrong > 1 ? `, and ${this.#wrong - 1} more` : ''
    return `the checksum of block ${this.#firstWrong} is wrong${more}`
  }

  #pastHeader(bytes: Buffer): Buffer {
    const start = Buffer.concat([this.#header!, bytes])
    const known = decodeIncrementalHeader(start, this.#checker.pageBytes)
    this.#header = known?.blocks ? undefined : start
    if (!known?.blocks) return Buffer.alloc(0)
    this.#blocks = known.blocks
    return start.subarray(known.headerBytes)
  }

  #flush(): void {
    const { pageBytes } = this.#checker
    const pages = Math.floor(this.#bytes / pageBytes)
    if (this.#hasChecksums) this.#check(pages)
    this.#pages += pages
    this.#bytes = 0
  }

  #check(pages: number): void {
    if (!this.#isIncremental) this.#checkRun(0, pages, this.#firstBlock + this.#pages)
    for (let page = 0; this.#isIncremental && page < pages; page++) {
      const block = this.#blocks![this.#pages + page]
      if (block !== undefined) this.#checkRun(page, 1, this.#firstBlock + block)
    }
  }

  #checkRun(page: number, pages: number, block: number): void {
    const { pageBytes } = this.#checker
    for (const index of this.#checker.check(page * pageBytes, pages, block)) {
      const written = this.#checker.lsnAt((page + index) * pageBytes)
      if (this.#start <= written && written < this.#stop) continue
      this.#wrong++
      this.#firstWrong ??= block + index
    }
  }
}

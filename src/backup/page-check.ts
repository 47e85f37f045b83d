import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs'
import { fsPath } from '../archive/file-name.ts'
import { systemCode } from '../errors.ts'
import { formatLsn, type Lsn } from '../postgres/lsn.ts'
import { PageChecker } from '../postgres/page-checksum.ts'
import { relationSegment } from '../postgres/relation-file.ts'

/** What is known of a cluster's pages, and of the backup that copies them. Plain data, for threads. */
export interface PageRules {
  /** `block_size` */
  pageBytes: number
  /** `segment_size`, in blocks */
  blocksPerSegment: number
  /** Where the backup began; undefined when no server runs, so that nothing writes pages and no WAL repairs them. */
  startLsn: Lsn | undefined
}

/** What is wrong with the pages of one file. */
export interface PageTrouble {
  /** Relative to its group's root. */
  path: string
  /** Wrong pages; the first hundred stretches of them. */
  ranges: BlockRange[]
  /** How many pages are wrong, listed or not. */
  pages: number
  /** Bytes at the end that are no whole page, so nothing can be said about them; most often 0. */
  remainder: number
}

/** Wrong pages that lie one behind the other. */
export interface BlockRange {
  /** Within the relation, so with the segments before this one. */
  block: number
  pages: number
  /**
   * The highest LSN in their headers, when all are from after the start of the backup: then they are no damage as
   * long as that LSN can be one.
   */
  newestLsn?: Lsn
}

const MOST_RANGES = 100
/** From here on, it is not the server that writes: a destroyed file is not waited for, page by page. */
const MOST_REREAD = 100
/** A write that was begun is over at once, unless the kernel makes the writer wait between two of its own pages. */
const REREAD_AFTER_MS = [0, 2, 10, 50]
/** Without a server there is no writer to wait for. */
const COLD_REREAD_AFTER_MS = [0]

/** Looks at pages in the buffer that they are read into. One for each thread; one file at a time. */
export class PageInspector {
  /** What files are to be read into. */
  readonly buffer: Buffer
  #rules: PageRules
  readonly #checker: PageChecker

  constructor(rules: PageRules, bufferBytes: number) {
    this.#rules = rules
    this.#checker = new PageChecker(bufferBytes, rules.pageBytes)
    this.buffer = this.#checker.buffer
  }

  /** A server that sends its files tells only then where the backup began. */
  setStart(startLsn: Lsn): void {
    this.#rules = { ...this.#rules, startLsn }
  }

  /**
   * @param path relative to the data directory, or to the tablespace
   * @returns undefined when the file has no pages with checksums
   */
  begin(path: string, source: PageSource): FilePages | undefined {
    const segment = relationSegment(path)
    if (segment === undefined) return undefined
    return new FilePages(this.#checker, this.#rules, path, segment, source)
  }
}

/** Where pages come from, and so where they can be read again. */
export interface PageSource {
  /** The open descriptor; left out when the server sends the file, which has read wrong pages again itself. */
  file?: number
  /** Where the server goes on writing the same file, when `file` belongs to a snapshot. */
  livePath?: string | undefined
}

/**
 * The pages of one file, while it is copied from a server that goes on writing. A page can be read while it is
 * written, so that a part of it is old and a part new ("torn"), and its checksum is wrong though nothing is damaged.
 *
 * A wrong page is therefore read again, into its place in the copy, as basebackup.c does it. When it is right now, so
 * is the copy, whatever the cause was: nothing more needs to be known. Only of a page whose first bytes have left
 * with the frame before, the copy keeps the torn one. That is good if the page is newer than the start of the backup:
 * its first change after the start put an image of the whole page into the WAL (full_page_writes is forced during a
 * backup, and with checksums holds for hint bits, too), and replay begins at the start.
 *
 * For the same reason a page that stays wrong, but whose header has an LSN from after the start, is most likely still
 * being written. Both basebackup.c and older versions of pgBackRest believe every such LSN, and so miss a page that
 * is overwritten with anything but small numbers. A true LSN lies before the end of the backup, as WAL is written
 * before the page. That end is not known yet: such pages are kept apart until `damageAmong`. (Newer versions of
 * pgBackRest ask, instead, whether a page changed between two reads; that takes a writer who waits for damage.)
 *
 * A snapshot never changes, so there a torn page stays torn, and the start of its header may be the old part. Then the
 * same page of the running cluster tells: when it is right and newer than the start, the server has written it, and
 * its LSN is judged. It does not go into the copy, since it may be newer than the end of the backup.
 *
 * A new page has to be nothing but zeros, as for the server itself; basebackup.c and pg_checksums do not look.
 */
export class FilePages {
  readonly #checker: PageChecker
  readonly #startLsn: Lsn | undefined
  readonly #rereadAfterMs: readonly number[]
  readonly #firstBlock: number
  readonly #path: string
  readonly #file: number | undefined
  readonly #livePath: string | undefined
  /** Bytes of a page in the spare one, whose other bytes come with the next piece. */
  #cutBytes = 0
  readonly #ranges: BlockRange[] = []
  #pages = 0
  #newestDoubtful: Lsn = 0n
  #isTorn = false

  constructor(checker: PageChecker, rules: PageRules, path: string, segment: number, source: PageSource) {
    this.#checker = checker
    this.#startLsn = rules.startLsn
    this.#rereadAfterMs = rules.startLsn === undefined ? COLD_REREAD_AFTER_MS : REREAD_AFTER_MS
    this.#firstBlock = segment * rules.blocksPerSegment
    this.#path = path
    this.#file = source.file
    this.#livePath = source.livePath
    checker.maxLsn = 0n
  }

  /**
   * Checks the next piece of the file. A page that is read again is replaced in the piece: hash it afterwards.
   *
   * @param piece a part of the inspector's buffer; it may begin and end anywhere in a page
   * @param position where in the file it begins, which is where the piece before it ended
   */
  take(piece: Buffer, position: number): void {
    const { memory, pageBytes, spareAt } = this.#checker
    let at = 0
    if (this.#cutBytes > 0) {
      at = piece.copy(memory, spareAt + this.#cutBytes, 0, pageBytes - this.#cutBytes)
      this.#cutBytes += at
      if (this.#cutBytes < pageBytes) return
      this.#check(spareAt, 1, position + at - pageBytes)
      this.#cutBytes = 0
    }
    const pages = Math.floor((piece.length - at) / pageBytes)
    this.#check(piece.byteOffset + at, pages, position + at)
    this.#cutBytes = piece.copy(memory, spareAt, at + pages * pageBytes)
  }

  /**
   * What was found, when all of the file was taken.
   * @returns the trouble, if there is any; the highest LSN of its pages, if they have one; and whether the copy has a torn page
   *   that this backup's replay mends, but no later one's
   */
  end(): { trouble?: PageTrouble; lastLsn?: string; isTorn: boolean } {
    const remainder = this.#cutBytes > 0 && !this.#isWholeNow() ? this.#cutBytes : 0
    const { maxLsn } = this.#checker
    const lastLsn = maxLsn > this.#newestDoubtful ? maxLsn : this.#newestDoubtful
    return {
      ...((this.#pages > 0 || remainder > 0) && {
        trouble: { path: this.#path, ranges: this.#ranges, pages: this.#pages, remainder },
      }),
      ...(lastLsn > 0n && { lastLsn: formatLsn(lastLsn) }),
      isTorn: this.#isTorn,
    }
  }

  #check(offset: number, pages: number, position: number): void {
    const { pageBytes } = this.#checker
    const firstBlock = this.#firstBlock + position / pageBytes
    const wrong = this.#checker.check(offset, pages, firstBlock)
    if (wrong.length === 0) return
    if (this.#livePath !== undefined) {
      for (const index of wrong) this.#noteOfSnapshot(firstBlock + index, offset + index * pageBytes)
      return
    }
    const file = this.#file
    let left = wrong
    for (const waitMs of file === undefined ? [] : this.#rereadAfterMs) {
      if (left.length === 0 || this.#pages > MOST_REREAD) break
      pause(waitMs)
      left = left.filter((index) => !this.#reread(file!, offset + index * pageBytes, firstBlock + index))
    }
    for (const index of left) this.#note(firstBlock + index, this.#checker.lsnAt(offset + index * pageBytes))
  }

  /** Of the LSNs that tell of a write, the one that is easier to believe. */
  #noteOfSnapshot(block: number, offset: number): void {
    const own = this.#checker.lsnAt(offset)
    const live = this.#pages > MOST_REREAD ? undefined : this.#liveLsn(block)
    const isLiveBetter =
      live !== undefined && this.#isFromAfterStart(live) && (live < own || !this.#isFromAfterStart(own))
    this.#note(block, isLiveBetter ? live : own)
  }

  /** The LSN of a page in the running cluster; undefined when that page is wrong, too, or gone. */
  #liveLsn(block: number): Lsn | undefined {
    const { memory, pageBytes, spareAt } = this.#checker
    const { maxLsn } = this.#checker
    const file = openIfPresent(this.#livePath!)
    if (file === undefined) return undefined
    try {
      const read = readSync(file, memory, spareAt, pageBytes, (block - this.#firstBlock) * pageBytes)
      const isRight = read === pageBytes && this.#checker.check(spareAt, 1, block).length === 0
      return isRight ? this.#checker.lsnAt(spareAt) : undefined
    } finally {
      closeSync(file)
      this.#checker.maxLsn = maxLsn
    }
  }

  /** Reads a page once more into its place. @returns whether the copy is good now, or will be after replay */
  #reread(file: number, offset: number, block: number): boolean {
    const { memory, pageBytes, spareAt } = this.#checker
    const read = readSync(file, memory, offset, pageBytes, (block - this.#firstBlock) * pageBytes)
    // Behind its end, a file that was truncated meanwhile counts as zeros; replay repeats the truncation.
    memory.fill(0, offset + read, offset + pageBytes)
    if (this.#checker.check(offset, 1, block).length > 0) return false
    if (offset !== spareAt || read === 0) return true
    const isMended = this.#isFromAfterStart(this.#checker.lsnAt(offset))
    if (isMended) this.#isTorn = true
    return isMended
  }

  #isFromAfterStart(lsn: Lsn): boolean {
    return this.#startLsn !== undefined && lsn >= this.#startLsn
  }

  #note(block: number, lsn: Lsn): void {
    this.#pages++
    const isDoubtful = this.#isFromAfterStart(lsn)
    if (isDoubtful && lsn > this.#newestDoubtful) this.#newestDoubtful = lsn
    const last = this.#ranges.at(-1)
    if (last && last.block + last.pages === block && (last.newestLsn !== undefined) === isDoubtful) {
      last.pages++
      if (isDoubtful && lsn > last.newestLsn!) last.newestLsn = lsn
    } else if (this.#ranges.length < MOST_RANGES) {
      this.#ranges.push({ block, pages: 1, ...(isDoubtful && { newestLsn: lsn }) })
    }
  }

  /** Whether the last page was only just being added, by a server that makes the file longer. */
  #isWholeNow(): boolean {
    const { pageBytes } = this.#checker
    const file = this.#file
    if (file === undefined) return false
    return this.#rereadAfterMs.some((waitMs) => {
      pause(waitMs)
      const facts =
        this.#livePath === undefined
          ? fstatSync(file)
          : statSync(fsPath(this.#livePath), { throwIfNoEntry: false })
      return facts !== undefined && facts.size % pageBytes === 0
    })
  }
}

/**
 * What of the troubles is damage, once it is known where the backup ended.
 * @param stopLsn no page of the backup can have a higher LSN; undefined when no server ran
 * @returns troubles without the pages that replay writes anew
 */
export function damageAmong(troubles: readonly PageTrouble[], stopLsn: Lsn | undefined): PageTrouble[] {
  const isRepaired = ({ newestLsn }: BlockRange) =>
    newestLsn !== undefined && stopLsn !== undefined && newestLsn <= stopLsn
  return troubles
    .map((trouble) => {
      const repaired = trouble.ranges.filter(isRepaired)
      return {
        ...trouble,
        ranges: trouble.ranges.filter((range) => !isRepaired(range)),
        pages: trouble.pages - repaired.reduce((sum, { pages }) => sum + pages, 0),
      }
    })
    .filter(({ pages, remainder }) => pages > 0 || remainder > 0)
}

function openIfPresent(path: string): number | undefined {
  try {
    return openSync(fsPath(path), 'r')
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw error
  }
}

const never = new Int32Array(new SharedArrayBuffer(4))

function pause(ms: number): void {
  if (ms > 0) Atomics.wait(never, 0, 0, ms)
}

import { createHash, type Hash, hash } from 'node:crypto'
import { closeSync, fstatSync, lstatSync, openSync, readSync, type Stats } from 'node:fs'
import { fsPath } from '../archive/file-name.ts'
import { FRAME_BYTES } from '../archive/shard-writer.ts'
import type { TarMember } from '../archive/tar.ts'
import { systemCode } from '../errors.ts'
import { incrementalName } from '../postgres/incremental-file.ts'
import { COUNTER, type CopyItem, type CopyWorkerData } from './copy-job.ts'
import { blocksToTake, IncrementContent, newScratch } from './increment-file.ts'
import { type FilePages, PageInspector, type PageTrouble } from './page-check.ts'
import { unreadable } from './scan.ts'
import type { OpenShard } from './shard.ts'
import type { SourceItem } from './source-list.ts'
import { Throttle } from './throttle.ts'

/** A file's time says nothing about changes in the same moment, which can be as coarse as a second; after this it does. */
const SETTLED_MS = 2000
const SHA256_OF_NOTHING = hash('sha256', '')

/** A file that is being copied. */
interface OpenFile {
  path: string
  file: number
  facts: Stats
  pages: FilePages | undefined
}

/** Copies files into the open shard: read into the frame buffer, hashed and checked there. */
export class Copier {
  readonly buffer: Buffer
  readonly #data: CopyWorkerData
  readonly #pages: PageInspector | undefined
  readonly #throttle: Throttle | undefined
  #scratch: Buffer | undefined
  #found: { vanished: string[]; troubles: PageTrouble[] } = { vanished: [], troubles: [] }

  constructor(data: CopyWorkerData) {
    this.#data = data
    this.#pages = data.pages && new PageInspector(data.pages, FRAME_BYTES)
    this.buffer = this.#pages?.buffer ?? Buffer.allocUnsafeSlow(FRAME_BYTES)
    this.#throttle =
      data.maxRate === undefined ? undefined : new Throttle(data.maxRate, data.counters, COUNTER)
  }

  /** What is found out about the files from now on. */
  begin() {
    this.#found = { vanished: [], troubles: [] }
    return this.#found
  }

  *copy(shard: OpenShard, item: CopyItem, root: string, liveRoot?: string): Generator<Buffer> {
    const path = `${root}/${item.path}`
    if (item.directory) {
      // A database or a tablespace may be dropped between the listing and the copy.
      const facts = lstatSync(fsPath(path), { throwIfNoEntry: false })
      if (facts) yield* shard.writer.member(memberOf(item.path, facts, true))
      else this.#found.vanished.push(item.path)
      return
    }
    const file = openIfPresent(path)
    if (file === undefined) {
      this.#found.vanished.push(item.path)
      return
    }
    try {
      const livePath = liveRoot && `${liveRoot}/${item.path}`
      const pages = this.#pages?.begin(item.path, { file, livePath })
      const open: OpenFile = { path, file, facts: fstatSync(file), pages }
      const blocks = this.#blocksOf(open, item)
      if (blocks) yield* this.#copyBlocks(shard, item, open, blocks)
      else yield* this.#copyWhole(shard, item, open)
      Atomics.add(this.#data.counters, COUNTER.files, 1n)
    } finally {
      closeSync(file)
    }
  }

  *#copyWhole({ writer, add }: OpenShard, item: SourceItem, open: OpenFile): Generator<Buffer> {
    const { path, file, facts, pages } = open
    const asOf = this.#data.frozenAtMs ?? Date.now()
    const sum = new ContentSum(facts.size)
    let position = 0
    const fill = (room: Buffer) => {
      this.#beforeRead(room.length)
      let read = readOr(path, () => readSync(file, room, 0, room.length, position))
      if (read === 0) {
        // Truncated while it was read. Its end becomes zeros, as in PostgreSQL's own base backup; replay repeats
        // the truncation.
        room.fill(0)
        read = room.length
      }
      const bytes = room.subarray(0, read)
      // First of all: a page that was torn is read again into its place.
      pages?.take(bytes, position)
      sum.update(bytes)
      position += read
      return read
    }
    const offset = yield* writer.member(memberOf(item.path, facts, false), fill)
    const seen = pages?.end()
    if (seen?.trouble) this.#found.troubles.push(seen.trouble)
    const copied = {
      path: item.path,
      size: facts.size,
      modifiedMs: facts.mtimeMs,
      sha256: sum.end(),
      offset,
      ...(seen?.lastLsn && { lastLsn: seen.lastLsn }),
    }
    const isSettled = asOf - facts.mtimeMs >= SETTLED_MS
    add(copied, isSettled && seen?.trouble === undefined && !seen?.isTorn)
  }

  /** @returns undefined where the file is taken whole */
  #blocksOf({ path, file, facts }: OpenFile, { change }: CopyItem): Uint32Array | undefined {
    if (!change) return undefined
    if (change.kind === 'pages' && change.unlessStill) {
      const { size, modifiedMs } = change.unlessStill
      if (size > 0 && facts.size === size && facts.mtimeMs === modifiedMs) return new Uint32Array()
    }
    const source = this.#sourceOf(file, facts)
    return readOr(path, () => blocksToTake(source, change, () => (this.#scratch ??= newScratch())))
  }

  *#copyBlocks(
    { writer, add }: OpenShard,
    item: SourceItem,
    open: OpenFile,
    blocks: Uint32Array,
  ): Generator<Buffer> {
    const { path, file, facts, pages } = open
    const content = new IncrementContent(this.#sourceOf(file, facts), blocks)
    const member = { ...memberOf(incrementalName(item.path), facts, false), size: content.size }
    const sum = new ContentSum(content.size)
    const fill = (room: Buffer) => {
      const read = readOr(path, () => content.read(room, (bytes, position) => pages?.take(bytes, position)))
      sum.update(room.subarray(0, read))
      return read
    }
    const offset = yield* writer.member(member, fill)
    const seen = pages?.end()
    if (seen?.trouble) this.#found.troubles.push(seen.trouble)
    const { path: name, size } = member
    add(
      { path: name, size, fileSize: facts.size, modifiedMs: facts.mtimeMs, sha256: sum.end(), offset },
      false,
    )
    Atomics.add(this.#data.counters, COUNTER.blocks, BigInt(blocks.length))
  }

  #sourceOf(file: number, { size }: Stats) {
    const { blockBytes } = this.#data
    if (blockBytes === undefined)
      throw new Error('what has changed means nothing without the size of a block')
    return { file, size, blockBytes, beforeRead: (count: number) => this.#beforeRead(count) }
  }

  #beforeRead(count: number): void {
    const { counters } = this.#data
    if (Atomics.load(counters, COUNTER.stop) !== 0n) throw new Error('the copy was stopped')
    if (this.#throttle?.wait(count) === 'stopped') throw new Error('the copy was stopped')
    Atomics.add(counters, COUNTER.bytes, BigInt(count))
  }
}

/** SHA-256 of content that comes in pieces. Most comes in one, and a hash that is kept open costs as much as reading it. */
class ContentSum {
  readonly #size: number
  #whole: string | undefined
  #open: Hash | undefined

  constructor(size: number) {
    this.#size = size
  }

  update(bytes: Buffer): void {
    if (bytes.length === this.#size) this.#whole = hash('sha256', bytes)
    else {
      this.#open ??= createHash('sha256')
      this.#open.update(bytes)
    }
  }

  /** Hexadecimal. */
  end(): string {
    return this.#whole ?? this.#open?.digest('hex') ?? SHA256_OF_NOTHING
  }
}

/** A disk that fails has to be told by the file that it failed with. */
function readOr<T>(path: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (systemCode(error) === undefined) throw error
    throw unreadable(path, error, 'failed')
  }
}

function openIfPresent(path: string): number | undefined {
  try {
    return openSync(fsPath(path), 'r')
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined
    throw unreadable(path, error, 'failed')
  }
}

function memberOf(path: string, facts: Stats, directory: boolean): TarMember {
  return {
    path,
    type: directory ? 'directory' : 'file',
    size: directory ? 0 : facts.size,
    // An emptied folder can be a link in the source, whose own mode says nothing.
    mode: directory && !facts.isDirectory() ? 0o700 : facts.mode & 0o7777,
    mtime: facts.mtimeMs / 1000,
    uid: facts.uid,
    gid: facts.gid,
  }
}

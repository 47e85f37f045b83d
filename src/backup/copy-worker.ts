import '../threads/compile-cache.ts'
import { createHash, type Hash, hash } from 'node:crypto'
import { closeSync, fstatSync, lstatSync, openSync, readSync, type Stats } from 'node:fs'
import { type MessagePort, parentPort, workerData } from 'node:worker_threads'
import type { Codec } from '../archive/codec.ts'
import { fsPath } from '../archive/file-name.ts'
import { helpToPress, PressHelper } from '../archive/frame-press.ts'
import { FRAME_BYTES } from '../archive/shard-writer.ts'
import type { TarMember } from '../archive/tar.ts'
import { systemCode } from '../errors.ts'
import { type Carried, carry } from '../threads/carried-error.ts'
import { BackupStore, type BackupStoreAddress } from './backup-store.ts'
import { PageInspector, type PageRules, type PageTrouble } from './page-check.ts'
import { unreadable } from './scan.ts'
import { type OpenShard, SHARD_FILES, ShardLine, type StoredShard, storeShard } from './shard.ts'
import type { SourceItem } from './source-list.ts'
import { Throttle } from './throttle.ts'

/** What a copying thread is started with. */
export interface CopyWorkerData {
  store: BackupStoreAddress
  codec: Codec
  /** A shard is closed when its plain bytes reach this. */
  shardBytes: number
  /** Plain bytes a second that all threads read together. */
  maxRate: number | undefined
  pages: PageRules | undefined
  /** When the files stood still, if they are a snapshot's; milliseconds since 1970. */
  frozenAtMs: number | undefined
  /** Shared: see COUNTER. */
  counters: BigInt64Array<SharedArrayBuffer>
}

/** Bytes read, files done, whether to stop, and when the next read is due. */
export const COUNTER = { bytes: 0, files: 1, stop: 2, due: 3 } as const
export const COUNTERS = 4

/** A worker asks, the main thread answers: for a new shard, or for more items of the open one's group. */
export type CopyRequest = { kind: 'shard' } | { kind: 'items'; group: string }
export type CopyAnswer = CopyJob | { help: MessagePort } | undefined
export interface CopyJob {
  name: string
  group: string
  root: string
  liveRoot: string | undefined
  items: SourceItem[]
}
/** Beside answers, a busy worker is sent threads that have nothing left to do, to help it compress. */
export type CopyOrder = { answer: CopyAnswer } | { helper: MessagePort }
export type CopyMessage =
  | CopyRequest
  | { kind: 'stored'; shard: StoredShard; vanished: string[]; troubles: PageTrouble[] }
  | { kind: 'lost'; repository: string; error: Carried }
  | { kind: 'failed'; error: Carried }

/** A file's time says nothing about changes in the same moment, which can be as coarse as a second; after this it does. */
const SETTLED_MS = 2000
const SHA256_OF_NOTHING = hash('sha256', '')

/** Fills shards until there is nothing left to copy, then helps others. */
async function copy(port: MessagePort, data: CopyWorkerData): Promise<void> {
  const store = BackupStore.open(data.store, (repository, error) =>
    port.postMessage({ kind: 'lost', repository, error: carry(error) } satisfies CopyMessage),
  )
  const copier = new Copier(data)
  const helpers: PressHelper[] = []
  let onAnswer: (answer: CopyAnswer) => void = () => {}
  port.on('message', (order: CopyOrder) => {
    if ('helper' in order) helpers.push(new PressHelper(order.helper, data.codec, FRAME_BYTES))
    else onAnswer(order.answer)
  })
  const releaseHelpers = () => {
    for (const helper of helpers.splice(0)) helper.release()
  }
  const ask = (request: CopyRequest) =>
    new Promise<CopyAnswer>((resolve) => {
      onAnswer = resolve
      port.postMessage(request)
    })

  const line = new ShardLine()
  try {
    for (let job = await ask({ kind: 'shard' }); job; job = await ask({ kind: 'shard' })) {
      if ('help' in job) {
        releaseHelpers()
        await Promise.all([helpToPress(job.help), line.end()])
        continue
      }
      const { name, group, root, liveRoot, items: first } = job
      const found = copier.begin()
      const fill = async function* (shard: OpenShard) {
        for (let items: SourceItem[] | undefined = first; items; ) {
          for (const item of items) yield* copier.copy(shard, item, root, liveRoot)
          const isFull = shard.writer.plainBytes >= data.shardBytes || shard.files >= SHARD_FILES
          const more = isFull ? undefined : await ask({ kind: 'items', group })
          items = more && 'items' in more ? more.items : undefined
        }
      }
      const shard = { name, group, codec: data.codec }
      await line.add(async (onDrained) => {
        const options = { buffer: copier.buffer, helpers, onDrained }
        const stored = await storeShard(store, shard, fill, options)
        port.postMessage({ kind: 'stored', shard: stored, ...found } satisfies CopyMessage)
      })
      releaseHelpers()
    }
    await line.end()
  } finally {
    // Also one that came when there was no more shard to help with, and however this ends: an open port keeps a thread alive.
    releaseHelpers()
  }
}

/** Copies files into the open shard: read into the frame buffer, hashed and checked there. */
class Copier {
  readonly buffer: Buffer
  readonly #data: CopyWorkerData
  readonly #pages: PageInspector | undefined
  readonly #throttle: Throttle | undefined
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

  *copy({ writer, add }: OpenShard, item: SourceItem, root: string, liveRoot?: string): Generator<Buffer> {
    const path = `${root}/${item.path}`
    if (item.directory) {
      // A database or a tablespace may be dropped between the listing and the copy.
      const facts = lstatSync(fsPath(path), { throwIfNoEntry: false })
      if (facts) yield* writer.member(memberOf(item.path, facts, true))
      else this.#found.vanished.push(item.path)
      return
    }
    const file = openIfPresent(path)
    if (file === undefined) {
      this.#found.vanished.push(item.path)
      return
    }
    try {
      const asOf = this.#data.frozenAtMs ?? Date.now()
      const facts = fstatSync(file)
      let sum: Hash | undefined
      let sha256 = facts.size === 0 ? SHA256_OF_NOTHING : ''
      const pages = this.#pages?.begin(item.path, { file, livePath: liveRoot && `${liveRoot}/${item.path}` })
      const { counters } = this.#data
      let position = 0
      const fill = (room: Buffer) => {
        if (Atomics.load(counters, COUNTER.stop) !== 0n) throw new Error('the copy was stopped')
        if (this.#throttle?.wait(room.length) === 'stopped') throw new Error('the copy was stopped')
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
        // Most files come in one piece, and a hash that is kept open costs as much as reading them.
        if (read === facts.size) sha256 = hash('sha256', bytes)
        else {
          sum ??= createHash('sha256')
          sum.update(bytes)
        }
        position += read
        Atomics.add(counters, COUNTER.bytes, BigInt(read))
        return read
      }
      const offset = yield* writer.member(memberOf(item.path, facts, false), fill)
      const seen = pages?.end()
      if (seen?.trouble) this.#found.troubles.push(seen.trouble)
      const copied = {
        path: item.path,
        size: facts.size,
        modifiedMs: facts.mtimeMs,
        sha256: sum?.digest('hex') ?? sha256,
        offset,
        ...(seen?.lastLsn && { lastLsn: seen.lastLsn }),
      }
      const isSettled = asOf - facts.mtimeMs >= SETTLED_MS
      add(copied, isSettled && seen?.trouble === undefined && !seen?.isTorn)
      Atomics.add(counters, COUNTER.files, 1n)
    } finally {
      closeSync(file)
    }
  }
}

/** A disk that fails has to be told by the file that it failed with. */
function readOr(path: string, read: () => number): number {
  try {
    return read()
  } catch (error) {
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

if (parentPort) {
  const port = parentPort
  copy(port, workerData as CopyWorkerData)
    .catch((error) => port.postMessage({ kind: 'failed', error: carry(error) } satisfies CopyMessage))
    .finally(() => port.close())
}

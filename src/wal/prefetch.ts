import { readdirSync, renameSync, statfsSync, watch } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { reasonOf } from '../errors.ts'
import { numberOf, parseWalFile, segmentName } from '../postgres/wal-file.ts'
import { isAppointed, readPosition } from './prefetch-owner.ts'
import { stillRecovers } from './prefetch-recovery.ts'
import { clearReady, comingFile, dropReady, readyFile, readyNote } from './ready-segments.ts'
import { type Circumstances, READY, writeNote } from './spool.ts'

export interface PrefetchRequest {
  circumstances: Circumstances
  /** The segment that the recovery has got last. */
  after: string
  segmentBytes: number
  /** Plain bytes of WAL to keep ready, at least one segment. */
  limitBytes: number
  /** A whole segment of the archive, checked; undefined when it is not there. */
  read: (name: string, signal: AbortSignal) => Promise<Buffer | undefined>
  signal: AbortSignal
}

export interface PrefetchReport {
  /** How many segments were made ready. */
  segments: number
  /** Why it ended. */
  ended: string
}

const MAX_SEGMENTS = 64
/** Side by side, as a store may be far away; and no more than so many bytes, as each is held in memory. */
const MAX_FETCHES = 4
const MAX_FETCHED_BYTES = 64 * 1024 * 1024
/** The part of the free space of `pg_wal` that ready segments may take: the server needs it more. */
const SHARE_OF_FREE = 4
/** Changes are told by the kernel, except the end of the recovery. */
const POLL_MS = 400
const IDLE_MS = 60_000
const APPOINTMENT_MS = 2000

/**
 * Keeps the segments that a recovery asks for next ready in `pg_wal/pgrecall/ready`, until it is no longer wanted.
 * Whatever goes wrong ends it, after what is ready was taken where that is good: the call for the segment will find out
 * by itself, and tell.
 */
export async function prefetchWal(request: PrefetchRequest): Promise<PrefetchReport> {
  return new Window(request).slide()
}

/**
 * Does what only the appointed prefetcher may do, which the call of `wal-fetch` makes this process right after it has
 * started it; removes whatever is ready afterwards.
 * @returns undefined when it was not appointed
 */
export async function whileAppointed<T>(root: string, work: () => Promise<T>): Promise<T | undefined> {
  const deadline = performance.now() + APPOINTMENT_MS
  while (!isAppointed(root)) {
    if (performance.now() > deadline) return undefined
    await wait(20)
  }
  try {
    return await work()
  } finally {
    // Another's are not ours to remove.
    if (isAppointed(root)) await clearReady(root)
  }
}

/** The segments after the one that was asked for last. */
class Window {
  readonly #request: PrefetchRequest
  readonly #root: string
  readonly #stop = new AbortController()
  readonly #ready = new Set<bigint>()
  readonly #coming = new Map<bigint, Promise<void>>()
  #timeline: number
  /** Of the last segment that the recovery has got. */
  #position: bigint
  #call: string | undefined
  #movedAt = performance.now()
  /** The first segment that cannot be had: the archive ends before it, or there is an obstacle. */
  #end: bigint | undefined
  #obstacle: unknown
  #segments = 0
  #size = 0
  #failure: unknown
  #isAwake = false
  #resume = () => {}

  constructor(request: PrefetchRequest) {
    this.#request = request
    this.#root = request.circumstances.root
    const { timeline, number } = this.#place(request.after)!
    this.#timeline = timeline
    this.#position = number
  }

  async slide(): Promise<PrefetchReport> {
    const { signal } = this.#request
    const wake = () => this.#wake()
    const changes = watch(join(this.#root, READY), wake).on('error', wake)
    signal.addEventListener('abort', wake)
    try {
      for (;;) {
        this.#isAwake = false
        await this.#follow()
        const ended = this.#reasonToEnd()
        if (ended !== undefined) return { segments: this.#segments, ended }
        this.#fill()
        await this.#change()
      }
    } finally {
      changes.close()
      this.#stop.abort()
      await Promise.allSettled(this.#coming.values())
    }
  }

  /** Finds out what the recovery has got since, and drops what it will not ask for. */
  async #follow(): Promise<void> {
    const names = new Set(readdirSync(join(this.#root, READY)))
    const taken = [...this.#ready].filter((number) => !names.has(this.#name(number)))
    for (const number of taken) await this.#drop(number)
    const call = readPosition(this.#root)
    if (call !== this.#call) {
      this.#call = call
      await this.#turnTo(call?.split(' ')[0] ?? '')
    }
    for (const number of taken) if (number > this.#position) this.#moveTo(number)
    this.#size = this.#affordable()
    for (const number of [...this.#ready]) if (!this.#isWanted(number)) await this.#drop(number)
  }

  /** A call had to look for itself, maybe elsewhere; and it may have found what was not there before. */
  async #turnTo(name: string): Promise<void> {
    const place = this.#place(name)
    if (!place) return
    if (place.timeline !== this.#timeline) {
      for (const number of [...this.#ready]) await this.#drop(number)
      this.#timeline = place.timeline
    }
    this.#end = undefined
    this.#obstacle = undefined
    this.#moveTo(place.number)
  }

  #moveTo(number: bigint): void {
    this.#position = number
    this.#movedAt = performance.now()
  }

  async #drop(number: bigint): Promise<void> {
    this.#ready.delete(number)
    await dropReady(this.#root, this.#name(number))
  }

  #reasonToEnd(): string | undefined {
    const isEmpty = this.#ready.size === 0 && this.#coming.size === 0
    if (this.#request.signal.aborted) return 'it was told to'
    if (this.#failure !== undefined) return `it failed: ${reasonOf(this.#failure)}`
    if (!isAppointed(this.#root)) return 'it is not the appointed one any more'
    if (!stillRecovers(this.#request.circumstances)) return 'the recovery is over'
    if (performance.now() - this.#movedAt > IDLE_MS) return 'nothing was asked for'
    if (isEmpty && this.#end === this.#position + 1n) {
      return this.#obstacle === undefined
        ? 'the archive ends'
        : `it cannot go on: ${reasonOf(this.#obstacle)}`
    }
    if (isEmpty && this.#size === 0) return 'there is no room'
    return undefined
  }

  #fill(): void {
    const { segmentBytes } = this.#request
    const fetches = Math.min(MAX_FETCHES, Math.max(1, Math.floor(MAX_FETCHED_BYTES / segmentBytes)))
    for (let number = this.#position + 1n; this.#isWanted(number); number++) {
      if (this.#coming.size >= fetches) return
      if (this.#ready.has(number) || this.#coming.has(number)) continue
      const made = this.#makeReady(this.#name(number), number)
        .catch((error) => {
          this.#failure ??= error
        })
        .finally(() => {
          this.#coming.delete(number)
          this.#wake()
        })
      this.#coming.set(number, made)
    }
  }

  async #makeReady(name: string, number: bigint): Promise<void> {
    const { circumstances, read } = this.#request
    const part = comingFile(this.#root, name, process.pid)
    const options = { mode: 0o600, flag: 'wx' }
    await writeFile(part, '', options)
    try {
      const plain = await read(name, this.#stop.signal).catch((error) => {
        this.#obstacle ??= error
        return undefined
      })
      if (name !== this.#name(number)) return
      if (plain === undefined) {
        if (this.#end === undefined || number < this.#end) this.#end = number
        return
      }
      await writeFile(part, plain)
      if (!this.#isWanted(number)) return
      // First the note, so that the file is believed as soon as it has its name; and no other file before that.
      await rm(readyFile(this.#root, name), { force: true })
      if (!writeNote(circumstances, readyNote(name), [])) throw new Error('a note cannot be written')
      // In one go: a process that was stopped for long before this line finds another appointed, and one that was
      // stopped within finds its file swept.
      if (!isAppointed(this.#root) || name !== this.#name(number)) return
      renameSync(part, readyFile(this.#root, name))
      this.#ready.add(number)
      this.#segments++
    } finally {
      await rm(part, { force: true })
    }
  }

  #isWanted(number: bigint): boolean {
    const isBeforeEnd = this.#end === undefined || number < this.#end
    return isBeforeEnd && number > this.#position && number <= this.#position + BigInt(this.#size)
  }

  /** How many segments may be ready: fewer where the disk is nearly full. */
  #affordable(): number {
    const { segmentBytes, limitBytes } = this.#request
    const { bavail, bsize } = statfsSync(join(this.#root, READY))
    // What is being written counts as whole: it would else take its own place, and be given up for that, again and again.
    const held = (this.#ready.size + this.#coming.size) * segmentBytes
    const count = Math.min(MAX_SEGMENTS, Math.max(1, Math.floor(limitBytes / segmentBytes)))
    return Math.min(count, Math.floor((bavail * bsize + held) / SHARE_OF_FREE / segmentBytes))
  }

  #name(number: bigint): string {
    return segmentName(this.#timeline, number, this.#request.segmentBytes)
  }

  #place(name: string): { timeline: number; number: bigint } | undefined {
    const file = parseWalFile(name)
    if (file?.kind !== 'segment') return undefined
    return { timeline: file.timeline, number: numberOf(file, this.#request.segmentBytes) }
  }

  /** Waits for a change, or until it is time to look whether the recovery is over. */
  async #change(): Promise<void> {
    if (this.#isAwake) return
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#resume = resolve
    const timer = setTimeout(resolve, POLL_MS)
    await promise
    clearTimeout(timer)
  }

  #wake(): void {
    this.#isAwake = true
    this.#resume()
  }
}

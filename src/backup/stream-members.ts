import { releaseMemory } from '../archive/codec.ts'
import { FRAME_BYTES, type ShardWriter } from '../archive/shard-writer.ts'
import { type TarMember, TarReader } from '../archive/tar.ts'
import { PgrecallError, reasonOf } from '../errors.ts'
import type { BackupPart } from '../postgres/base-backup.ts'

type Event = { member: TarMember } | { bytes: Buffer } | 'end'

/** A member of an archive that is arriving. Its content has to be taken, or passed over, before the next one comes. */
export interface ArrivingMember {
  /** As the archive has it. */
  member: TarMember
  /** The tablespace's archive that it is in, or `base`. */
  group: string
  content: ArrivingContent
}

/** What looks at a file's content on its way into a shard, such as the check of its pages. */
export interface FileObserver {
  /** @param bytes lie in the frame buffer that was given, and may be looked at, not kept @param position in the file */
  take(bytes: Buffer, position: number): void
  end(): SeenFile
}

export interface SeenFile {
  lastLsn?: string
  /** Of an incremental file: the bytes of the whole file, and how many blocks came. */
  fileSize?: number
  changedBlocks?: number
}

/** The parts of a base backup that are no members of an archive. */
export type OtherPart = Extract<BackupPart, { kind: 'start' | 'manifest' | 'end' }>

/**
 * Reads the archives of a base backup as they arrive.
 * @param onOther gets the other parts
 * @throws PgrecallError `failed` when an archive is damaged, or ends in the middle
 */
export async function* arrivingMembers(
  parts: AsyncIterable<BackupPart>,
  onOther: (part: OtherPart) => void,
): AsyncGenerator<ArrivingMember> {
  let group = 'base'
  const events = archiveEvents(parts, {
    onArchive: (oid) => {
      group = oid ?? 'base'
    },
    onOther,
  })
  try {
    for await (const event of events) {
      if (event === 'end' || !('member' in event)) continue
      const content = new ArrivingContent(event.member.size, events)
      yield { member: event.member, group, content }
      await content.skip()
    }
  } finally {
    await events.return(undefined)
  }
}

async function* archiveEvents(
  parts: AsyncIterable<BackupPart>,
  {
    onArchive,
    onOther,
  }: { onArchive: (oid: string | undefined) => void; onOther: (part: OtherPart) => void },
): AsyncGenerator<Event, undefined> {
  let reader: TarReader | undefined
  let events: Event[] = []
  const onMember = (member: TarMember) => {
    // The server calls the folder of the WAL "./pg_wal".
    events.push({ member: { ...member, path: member.path.replace(/^\.\//, '') } })
    return { write: (bytes: Buffer) => void events.push({ bytes }), end: () => void events.push('end') }
  }
  const finish = () => {
    if (reader) asArchive(() => reader!.finish())
    reader = undefined
  }
  for await (const part of parts) {
    if (part.kind === 'data') {
      if (!reader) throw new Error('data outside of an archive')
      asArchive(() => reader!.push(part.bytes))
      yield* events
      events = []
      continue
    }
    finish()
    if (part.kind === 'archive') {
      reader = new TarReader(onMember)
      onArchive(part.tablespaceOid)
    } else onOther(part)
  }
  finish()
}

function asArchive(step: () => void): void {
  try {
    step()
  } catch (error) {
    throw new PgrecallError('failed', `what the server sent is no whole archive: ${reasonOf(error)}`, {
      hint: 'run this again; if it happens again, look into the log of the server',
      cause: error,
    })
  }
}

/** Content on its way from an archive into a shard. It holds little more than what is about to be written. */
export class ArrivingContent {
  readonly #events: AsyncGenerator<Event, undefined>
  readonly #pieces: Buffer[] = []
  #arrived = 0
  #ended = false
  /** Bytes that were not read yet, whether they have arrived or not. */
  left: number

  constructor(size: number, events: AsyncGenerator<Event, undefined>) {
    this.#events = events
    this.left = size
  }

  /** Waits until so many bytes have arrived, or all that there are. */
  async atLeast(bytes: number): Promise<void> {
    while (this.#arrived < Math.min(bytes, this.left)) {
      const event = await this.#next()
      if (typeof event === 'object' && 'bytes' in event) {
        this.#pieces.push(event.bytes)
        this.#arrived += event.bytes.length
      }
    }
  }

  /** Moves bytes that have arrived into `room`. @returns how many; at least one when `atLeast` was waited for */
  read(room: Buffer): number {
    let used = 0
    while (used < room.length && this.#pieces.length > 0) {
      const piece = this.#pieces[0]!
      const copied = piece.copy(room, used)
      used += copied
      if (copied === piece.length) forget(this.#pieces.shift()!)
      else this.#pieces[0] = piece.subarray(copied)
    }
    this.#arrived -= used
    this.left -= used
    return used
  }

  /** All of it, in memory. */
  async whole(): Promise<Buffer> {
    const bytes = Buffer.alloc(this.left)
    await this.atLeast(bytes.length)
    this.read(bytes)
    return bytes
  }

  /** Passes over what is left. */
  async skip(): Promise<void> {
    while (!this.#ended) await this.#next()
  }

  async #next(): Promise<Event> {
    const { value, done } = await this.#events.next()
    if (done) throw new Error('the archive ends inside a member')
    if (value === 'end') this.#ended = true
    return value
  }
}

/** Gives memory back whose last bytes these are: what lay before them was read before them. */
function forget(piece: Buffer): void {
  if (piece.byteOffset + piece.length === piece.buffer.byteLength) releaseMemory(piece)
}

/**
 * Writes a file into a shard while it arrives. Between two frames the writer takes no more than a frame's bytes, so it
 * is asked to go on only when these are there, and never waits in between.
 * @param observe sees the bytes where they lie in the writer's buffer
 * @returns the offset of the content in the tar stream
 */
export async function* writeArriving(
  writer: ShardWriter,
  member: TarMember,
  content: ArrivingContent,
  observe: (bytes: Buffer) => void,
): AsyncGenerator<Buffer, number> {
  const steps = writer.member(member, (room) => {
    const read = content.read(room)
    observe(room.subarray(0, read))
    return read
  })
  for (;;) {
    await content.atLeast(FRAME_BYTES)
    const step = steps.next()
    if (step.done) return step.value
    yield step.value
  }
}

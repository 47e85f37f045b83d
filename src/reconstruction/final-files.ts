import { createHash, hash } from 'node:crypto'
import { TAR_BLOCK, type TarMember, TarReader } from '../archive/tar.ts'
import type { ReadableRepository } from '../catalog/sealed-object.ts'
import { reasonOf } from '../errors.ts'
import { withoutIncrementalLines } from '../postgres/backup-label.ts'
import { type FinalMember, NO_BLOCK } from './file-table.ts'
import { copyOf, type MemberBytes, PassingMember } from './member-bytes.ts'
import { BLOCK_BYTES, FROM_WHOLE, runsOf, sourcesOfBlocks, ZEROS } from './merged-blocks.ts'
import { Increments, type OpenedIncrement, WRONG_SUM } from './opened-increments.ts'
import type { BaseShard } from './reconstruction.ts'
import { ShardContent, type ShardReader, type StoredShard } from './shard-content.ts'

/** A file as it is put together. */
export interface FinalFile extends Pick<TarMember, 'mode' | 'uid' | 'gid'> {
  /** In its group. */
  path: string
  group: string
  size: number
  modifiedMs: number
  /** Whether it is just the member of its name in the newest link. */
  asRecorded: boolean
  /**
   * Its bytes, in pieces, each valid until the next one is asked for. Has to be read to its end before the next file is
   * asked for, or not at all.
   * @returns at its end the SHA-256 of all of them, hexadecimal
   * @throws PgrecallError `damaged` where a member that it is made of is not what its index says
   */
  content(): AsyncGenerator<Buffer, string>
}

/** What the files of a shard are read with. */
interface Sources {
  content: ShardContent
  reader: ShardReader
  increments: Increments
  gathered: Buffer
}

const LABEL = 'backup_label'
const ZERO_PIECE = Buffer.alloc(1024 * 1024)
/** Small pieces are gathered up to this: each costs a call of the hash, and of whoever writes it. */
const GATHERED_BYTES = 256 * 1024

/**
 * Puts the files together whose whole copies are in one shard, in the order in which they lie there. Frames that nobody
 * needs are not decoded. Memory: a frame of the shard, a batch of small increments, and a frame of each large one.
 *
 * @throws PgrecallError `damaged`; when the shard was read from its beginning to its end, also where its stored sum is wrong
 */
export async function* finalFiles(
  { shard, members }: BaseShard,
  shards: readonly StoredShard[],
  repository: ReadableRepository,
): AsyncGenerator<FinalFile> {
  const content = new ShardContent(repository, shards[shard]!)
  const ranges = members.map(({ offset, size }) => ({ offset: offset - TAR_BLOCK, size: TAR_BLOCK + size }))
  const reader = content.reader(ranges)
  const increments = new Increments(repository, shards)
  const header = Buffer.alloc(TAR_BLOCK)
  const gathered = Buffer.allocUnsafeSlow(GATHERED_BYTES)
  try {
    for await (const batch of increments.batches(members)) {
      for (const member of batch) {
        await reader.copy(member.offset - TAR_BLOCK, header)
        yield* finalFile(member, memberAt(header, member, content), { content, reader, increments, gathered })
      }
    }
    await reader.finish()
  } finally {
    await reader.close()
  }
}

/** What the block before a member's content says of it. */
function memberAt(header: Buffer, { path, size }: FinalMember, content: ShardContent): TarMember {
  let found: TarMember | undefined
  const reader = new TarReader((member) => {
    found = member
    return undefined
  })
  try {
    reader.push(header)
  } catch (error) {
    throw content.damaged(`${path}: ${reasonOf(error)}`, error)
  }
  // Where the size stands in an extended header, it is zero here.
  if (found?.type === 'file' && (found.size === size || found.size === 0)) return found
  throw content.damaged(`${path}: it is not where the index says`)
}

async function* finalFile(
  member: FinalMember,
  { mode, uid, gid }: TarMember,
  { content, reader, increments, gathered }: Sources,
): AsyncGenerator<FinalFile> {
  const { path, modifiedMs, isWhole } = member
  const { group } = content.shard
  const facts = { path, group, modifiedMs, mode, uid, gid }
  const whole = new PassingMember(reader, member, () => content.damaged(`${path}: ${WRONG_SUM}`))
  if (path === LABEL && group === 'base') {
    const label = Buffer.from(withoutIncrementalLines((await contentOf(whole)).toString('latin1')), 'latin1')
    const asRecorded = isWhole && label.length === member.size
    yield { ...facts, size: label.length, asRecorded, content: () => held(label) }
  } else if (isUnchanged(member)) {
    yield { ...facts, size: member.size, asRecorded: isWhole, content: () => unchanged(whole, member.sha256) }
  } else {
    const { opened, close } = await increments.open(member)
    try {
      const length = member.length === NO_BLOCK ? undefined : member.length
      const sources = sourcesOfBlocks(opened, { length, cutAt: member.cutAt })
      const size = sources.length * BLOCK_BYTES
      yield { ...facts, size, asRecorded: false, content: () => merged(sources, whole, opened, gathered) }
    } finally {
      await close()
    }
  }
}

/** Whether the whole copy is the file: all that came after it says that nothing has changed. */
export function isUnchanged({ increments, length, cutAt, size }: FinalMember): boolean {
  if (increments.length > 0) return false
  return length === NO_BLOCK || (length * BLOCK_BYTES === size && cutAt >= length)
}

async function contentOf(member: MemberBytes): Promise<Buffer> {
  const bytes = await copyOf(member, 0, member.size)
  await member.end()
  return bytes
}

async function* held(bytes: Buffer): AsyncGenerator<Buffer, string> {
  if (bytes.length > 0) yield bytes
  return hash('sha256', bytes)
}

async function* unchanged(whole: MemberBytes, sha256: string): AsyncGenerator<Buffer, string> {
  for (let at = 0; at < whole.size; ) {
    const ready = whole.next(at, whole.size)
    const bytes = ready instanceof Promise ? await ready : ready
    yield bytes
    at += bytes.length
  }
  await whole.end()
  return sha256
}

/** @param increments newest first; `sources` tells which blocks come from which @param room small pieces are gathered in it */
async function* merged(
  sources: Uint16Array,
  whole: MemberBytes,
  increments: readonly OpenedIncrement[],
  room: Buffer,
): AsyncGenerator<Buffer, string> {
  const sum = createHash('sha256')
  const summed = (bytes: Buffer) => {
    sum.update(bytes)
    return bytes
  }
  let gathered = 0
  for await (const bytes of mergedPieces(sources, whole, increments)) {
    const isLarge = bytes.length >= room.length / 4
    if (gathered > 0 && (isLarge || gathered + bytes.length > room.length)) {
      yield summed(room.subarray(0, gathered))
      gathered = 0
    }
    if (isLarge) yield summed(bytes)
    else gathered += bytes.copy(room, gathered)
  }
  if (gathered > 0) yield summed(room.subarray(0, gathered))
  await whole.end()
  for (const { content } of increments) await content.end()
  return sum.digest('hex')
}

async function* mergedPieces(
  sources: Uint16Array,
  whole: MemberBytes,
  increments: readonly OpenedIncrement[],
): AsyncGenerator<Buffer> {
  const cursors = increments.map(() => 0)
  for (const { source, from, to } of runsOf(sources)) {
    if (source === ZEROS) yield* zeros((to - from) * BLOCK_BYTES)
    else if (source === FROM_WHOLE) {
      const end = to * BLOCK_BYTES
      const stored = Math.min(end, whole.size)
      yield* piecesOf(whole, from * BLOCK_BYTES, stored)
      yield* zeros(end - Math.max(stored, from * BLOCK_BYTES))
    } else {
      const { blocks, content, blocksAt } = increments[source]!
      let at = cursors[source]!
      while (blocks[at]! < from) at++
      cursors[source] = at + to - from
      yield* piecesOf(content, blocksAt + at * BLOCK_BYTES, blocksAt + (at + to - from) * BLOCK_BYTES)
    }
  }
}

async function* piecesOf(member: MemberBytes, from: number, to: number): AsyncGenerator<Buffer> {
  for (let at = from; at < to; ) {
    const ready = member.next(at, to)
    const bytes = ready instanceof Promise ? await ready : ready
    yield bytes
    at += bytes.length
  }
}

function* zeros(count: number): Generator<Buffer> {
  for (let left = count; left > 0; left -= ZERO_PIECE.length) yield ZERO_PIECE.subarray(0, left)
}

import { randomFillSync } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { type Codec, compressFrame, decompressFrame, measureFrame } from '../../src/archive/codec.ts'
import { FRAME_BYTES, ShardWriter } from '../../src/archive/shard-writer.ts'
import { type TarMember, TarReader } from '../../src/archive/tar.ts'
import { has, pipeThrough } from './programs.ts'

const ZSTD: Codec = { method: 'zstd', level: 1 }

/** Sizes that put headers, contents and paddings before, on and behind the border of a frame. */
const LAYOUTS: Record<string, number[]> = {
  'no member at all': [],
  'a content that ends one byte before the border': [FRAME_BYTES - 512 - 1, 5],
  'a content that ends on the border': [FRAME_BYTES - 512, 5],
  'a content that ends one byte behind the border': [FRAME_BYTES - 512 + 1, 5],
  'a header that ends on the border': [FRAME_BYTES - 1024, 700, 0],
  'a header that begins on the border': [FRAME_BYTES - 512, 700],
  'an end mark on the border': [FRAME_BYTES - 512 - 1024],
  'an end mark across the border': [FRAME_BYTES - 512 - 512],
  'a member of several frames': [3 * FRAME_BYTES + 77, 1],
  'many small members': Array.from({ length: 5000 }, (_, index) => index % 1500),
}

describe.each(Object.entries(LAYOUTS))('a shard with %s', (name, sizes) => {
  const members = sizes.map(
    (size, index): TarMember => ({
      path: `base/${index}${index % 3 === 0 ? '/a-long-name'.repeat(12) : ''}`,
      type: 'file',
      size,
      mode: 0o600,
      mtime: 1_763_700_000,
      uid: 0,
      gid: 0,
    }),
  )
  const contents = sizes.map((size) => randomFillSync(Buffer.alloc(size)))

  const others: Codec[] =
    name === 'a member of several frames' ? [{ method: 'gzip', level: 1 }, { method: 'none' }] : []

  test.runIf(has('zstd')).each([ZSTD, ...others])('as %o', (codec) => {
    const { stored, writer, offsets } = write(codec)
    const plain = codec.method === 'none' ? stored : pipeThrough(codec.method, ['-dc'], stored)
    expect(plain.length).toBe(writer.plainBytes)
    expect(writer.members).toBe(sizes.length)
    for (const [index, offset] of offsets.entries()) {
      const found = plain.subarray(offset, offset + sizes[index]!)
      expect(found.equals(contents[index]!), `member ${index} at ${offset}`).toBe(true)
    }
    expect(namesIn(plain)).toEqual(members.map(({ path }) => path))
  })

  test('can be read from any frame on', () => {
    const { frames } = write(ZSTD)
    for (const [index, frame] of frames.entries()) {
      expect(measureFrame(frame)).toEqual({ bytes: frame.length, skippable: false })
      const plainBytes = decompressFrame(frame).length
      if (index < frames.length - 1) expect(plainBytes).toBe(FRAME_BYTES)
      else expect(plainBytes).toBeLessThanOrEqual(FRAME_BYTES)
    }
  })

  /** Contents come in uneven pieces, and frames are taken as a store takes them: copied before the next is made. */
  function write(codec: Codec) {
    const writer = new ShardWriter()
    const frames: Buffer[] = []
    const offsets: number[] = []
    for (const [index, member] of members.entries()) {
      let at = 0
      const adding = writer.member(member, (room) => {
        const copied = contents[index]!.copy(room, 0, at, at + 1 + Math.floor(room.length * 0.7))
        at += copied
        return copied
      })
      for (;;) {
        const step = adding.next()
        if (step.done) {
          offsets.push(step.value)
          break
        }
        frames.push(Buffer.from(compressFrame(codec, step.value)))
      }
    }
    for (const frame of writer.finish()) frames.push(Buffer.from(compressFrame(codec, frame)))
    return { stored: Buffer.concat(frames), frames, writer, offsets }
  }
})

test('two shards from one buffer do not mix', () => {
  const buffer = Buffer.alloc(FRAME_BYTES)
  const folder = (path: string): TarMember => ({
    path,
    type: 'directory',
    size: 0,
    mode: 0o700,
    mtime: 0,
    uid: 0,
    gid: 0,
  })
  const shards = ['first', 'second'].map((path) => {
    const writer = new ShardWriter(buffer)
    return Buffer.concat([...writer.member(folder(path)), ...writer.finish()])
  })
  expect(shards.map((shard) => namesIn(shard))).toEqual([['first'], ['second']])
})

function namesIn(plain: Buffer): string[] {
  const names: string[] = []
  const reader = new TarReader((member) => {
    names.push(member.path)
    return undefined
  })
  reader.push(plain)
  reader.finish()
  return names
}

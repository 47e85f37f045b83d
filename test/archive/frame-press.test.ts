import { randomFillSync } from 'node:crypto'
import { MessageChannel } from 'node:worker_threads'
import { afterEach, describe, expect, test } from 'vitest'
import { type Codec, decompressFrame } from '../../src/archive/codec.ts'
import { FramePress, helpToPress, PressHelper } from '../../src/archive/frame-press.ts'

const FRAME = 64 * 1024
const ZSTD: Codec = { method: 'zstd', level: 1 }
const helping: { helper: PressHelper; ended: Promise<void> }[] = []

afterEach(async () => {
  for (const { helper, ended } of helping.splice(0)) {
    helper.release()
    await ended
  }
})

describe.each([ZSTD, { method: 'gzip', level: 1 } as Codec, { method: 'none' } as Codec])('%o', (codec) => {
  test.each([0, 1, 3])(
    'with %d helpers, frames come out in their order and at their offsets',
    async (count) => {
      const alone = new FramePress(codec)
      const expected = await pressed(alone)
      const press = new FramePress(
        codec,
        Array.from({ length: count }, () => help(codec)),
      )
      expect(Buffer.compare(await pressed(press), expected)).toBe(0)
      expect(press.offsets).toEqual(alone.offsets)
      expect(press.offsets).toHaveLength(20)
    },
  )
})

test.each([1, 100, 20_000, 300_000])(
  'a helper gives back frames of %d bytes that do not compress',
  async (bytes) => {
    const { port1, port2 } = new MessageChannel()
    helping.push({ helper: new PressHelper(port1, ZSTD, 1024 * 1024), ended: helpToPress(port2) })
    const plain = randomFillSync(Buffer.alloc(bytes))
    const press = new FramePress(ZSTD, [helping[0]!.helper])
    const [frame] = await Array.fromAsync(press.press([plain]))
    expect(decompressFrame(frame!).equals(plain)).toBe(true)
  },
)

test('helpers may come and go between two frames', async () => {
  const expected = await pressed(new FramePress(ZSTD))
  const helpers: PressHelper[] = []
  const press = new FramePress(ZSTD, helpers)
  const found = await pressed(press, (index) => {
    if (index === 5 || index === 6) helpers.push(help(ZSTD))
    if (index === 15) helpers.splice(0)
  })
  expect(found.equals(expected)).toBe(true)
})

test('a helper that goes while it has a frame is an error, and no hole', async () => {
  const { port1, port2 } = new MessageChannel()
  // It takes the frame, and never answers.
  port2.on('message', (message) => typeof message === 'number' && port2.close())
  const press = new FramePress(ZSTD, [new PressHelper(port1, ZSTD, FRAME)])
  await expect(pressed(press)).rejects.toThrow('is gone')
})

function help(codec: Codec): PressHelper {
  const { port1, port2 } = new MessageChannel()
  const ended = helpToPress(port2)
  const helper = new PressHelper(port1, codec, FRAME)
  helping.push({ helper, ended })
  return helper
}

/** Twenty frames out of one buffer that is used again and again, as in a shard. */
async function pressed(press: FramePress, before: (index: number) => void = () => {}): Promise<Buffer> {
  const buffer = Buffer.alloc(FRAME)
  const frames = function* () {
    for (let index = 0; index < 20; index++) {
      before(index)
      buffer.fill(index)
      buffer.write(`frame ${index}`)
      const length = index === 19 ? 100 : FRAME
      yield buffer.subarray(0, length)
      randomFillSync(buffer)
    }
  }
  const out: Buffer[] = []
  for await (const frame of press.press(frames())) out.push(Buffer.from(frame))
  return Buffer.concat(out)
}

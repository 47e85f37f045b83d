import { type Codec, compressFrameAside, releaseMemory } from './codec.ts'
import { FRAME_BYTES } from './shard-writer.ts'

/** How many frames are being compressed while the next one is filled. */
const AHEAD = 2

/**
 * A stream as frames of some MiB each, which are compressed beside the thread that reads and stores.
 * @param pieces may be reused as soon as the next one is asked for
 * @returns pieces, each valid until the next one is asked for
 */
export async function* compressed(
  codec: Codec,
  pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
): AsyncGenerator<Buffer> {
  const pressed: Promise<Buffer>[] = []
  const emit = async function* () {
    const frame = await pressed.shift()!
    yield frame
    if (codec.method !== 'none') releaseMemory(frame)
  }
  // One more than are being compressed: a frame's memory is free again once it was given out.
  for await (const plain of gather(pieces, AHEAD + 1)) {
    const frame = compressFrameAside(codec, plain)
    // It is awaited in its turn; until then nobody minds a failure.
    frame.catch(() => {})
    pressed.push(frame)
    if (pressed.length > AHEAD) yield* emit()
  }
  while (pressed.length > 0) yield* emit()
}

/** Small pieces gathered into frames. @param count after so many frames the memory of the first one is used again */
async function* gather(
  pieces: AsyncIterable<Buffer> | Iterable<Buffer>,
  count: number,
): AsyncGenerator<Buffer> {
  const ring: Buffer[] = []
  let number = 0
  let filled = 0
  const frame = () => (ring[number % count] ??= Buffer.allocUnsafeSlow(FRAME_BYTES))
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length; ) {
      const copied = piece.copy(frame(), filled, at)
      filled += copied
      at += copied
      if (filled < FRAME_BYTES) continue
      yield frame()
      number++
      filled = 0
    }
  }
  if (filled > 0) yield frame().subarray(0, filled)
}

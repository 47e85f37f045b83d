import { type Codec, compressFrame } from './codec.ts'
import { FRAME_BYTES } from './shard-writer.ts'

/** A stream as frames of some MiB each. @param pieces may be reused as soon as the next one is asked for */
export async function* compressed(codec: Codec, pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const plain of gather(pieces)) yield compressFrame(codec, plain)
}

/** Small pieces gathered into frames. */
async function* gather(pieces: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const frame = Buffer.allocUnsafe(FRAME_BYTES)
  let filled = 0
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length; ) {
      const copied = piece.copy(frame, filled, at)
      filled += copied
      at += copied
      if (filled < FRAME_BYTES) continue
      yield frame
      filled = 0
    }
  }
  if (filled > 0) yield frame.subarray(0, filled)
}

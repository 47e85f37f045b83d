import { PendingBytes } from '../archive/pending-bytes.ts'

/**
 * Cuts stored bytes into the frames that they consist of. As a chunk is copied at once, the next one is on its way while
 * the frames of this one are worked on.
 * @param lengths of the frames, in their order
 * @returns each frame, valid until the next one is asked for; fewer where the bytes end too early
 */
export async function* cutFrames(
  stored: AsyncIterable<Buffer>,
  lengths: readonly number[],
): AsyncGenerator<Buffer> {
  const chunks = stored[Symbol.asyncIterator]()
  const pending = new PendingBytes()
  let number = 0
  try {
    for (let next = await chunks.next(); !next.done; ) {
      pending.append(next.value)
      const coming = chunks.next()
      // It is awaited below, unless something fails before.
      coming.catch(() => {})
      for (let bytes = lengths[number]; bytes !== undefined && pending.bytes.length >= bytes; ) {
        yield pending.bytes.subarray(0, bytes)
        pending.remove(bytes)
        bytes = lengths[++number]
      }
      next = await coming
    }
    if (pending.bytes.length > 0) throw new Error('its frames are not where its index says')
  } finally {
    await chunks.return?.()
  }
}

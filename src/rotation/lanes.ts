/**
 * Does something for each item as they come, several at a time. After a failure nothing new is begun; it is told once what
 * was under way has ended.
 * @param lanes how many at a time
 */
export async function inLanes<Item>(
  items: AsyncIterable<Item>,
  lanes: number,
  work: (item: Item) => Promise<void>,
): Promise<void> {
  const queue = items[Symbol.asyncIterator]()
  let failure: { error: unknown } | undefined
  const lane = async () => {
    try {
      while (!failure) {
        const next = await queue.next()
        if (next.done) return
        await work(next.value)
      }
    } catch (error) {
      failure ??= { error }
    }
  }
  await Promise.all(Array.from({ length: lanes }, lane))
  if (!failure) return
  await queue.return?.()
  throw failure.error
}

/**
 * Works on items as they come, several at a time. After a failure nothing more is begun, and it is told once all that was
 * under way has ended.
 * @param lanes how many at a time
 * @returns what came of each, in the order of the items
 * @throws the first failure
 */
export async function sideBySide<Item, Result>(
  items: Iterable<Item> | AsyncIterable<Item>,
  lanes: number,
  work: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const queue = Symbol.asyncIterator in items ? items[Symbol.asyncIterator]() : items[Symbol.iterator]()
  const results: Result[] = []
  let begun = 0
  let failure: { error: unknown } | undefined
  const lane = async () => {
    try {
      while (!failure) {
        const next = await queue.next()
        if (next.done) return
        const index = begun++
        results[index] = await work(next.value)
      }
    } catch (error) {
      failure ??= { error }
    }
  }
  await Promise.all(Array.from({ length: lanes }, lane))
  if (!failure) return results
  await queue.return?.()
  throw failure.error
}

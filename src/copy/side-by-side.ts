/**
 * Works on items, several at once, in their order. After a failure nothing more is begun.
 * @throws the first failure, once all that was under way has ended
 */
export async function sideBySide<T>(
  items: Iterable<T>,
  jobs: number,
  signal: AbortSignal,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const waiting = items[Symbol.iterator]()
  let failure: { error: unknown } | undefined
  const lane = async () => {
    for (let next = waiting.next(); !next.done && !failure; next = waiting.next()) {
      try {
        signal.throwIfAborted()
        await work(next.value)
      } catch (error) {
        failure ??= { error }
      }
    }
  }
  await Promise.all(Array.from({ length: jobs }, lane))
  if (failure) throw failure.error
}

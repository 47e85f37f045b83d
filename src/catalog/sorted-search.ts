/**
 * The index of the first element for which something holds that holds for all behind it too; the length where it holds
 * for none.
 */
export function firstWhere<T>(sorted: readonly T[], holds: (element: T) => boolean): number {
  let low = 0
  let high = sorted.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if (holds(sorted[middle]!)) high = middle
    else low = middle + 1
  }
  return low
}

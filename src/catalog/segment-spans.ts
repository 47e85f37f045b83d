import { firstWhere } from './sorted-search.ts'

/** Segments of one timeline by their numbers, `first` to `last`. */
export interface Span {
  first: bigint
  last: bigint
}

/** The same segments in order: what overlaps or touches is one span. */
export function mergedSpans(spans: readonly Span[]): Span[] {
  const merged: Span[] = []
  for (const span of spans.toSorted((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0))) {
    const before = merged.at(-1)
    if (!before || span.first > before.last + 1n) merged.push({ ...span })
    else if (span.last > before.last) before.last = span.last
  }
  return merged
}

/** What is left of a span without others. @param holes as `mergedSpans` gives them */
export function withoutSpans({ first, last }: Span, holes: readonly Span[]): Span[] {
  const left: Span[] = []
  let next = first
  for (let at = firstWhere(holes, (hole) => hole.last >= first); at < holes.length; at++) {
    const hole = holes[at]!
    if (hole.first > last) break
    if (hole.first > next) left.push({ first: next, last: hole.first - 1n })
    next = hole.last + 1n
  }
  if (next <= last) left.push({ first: next, last })
  return left
}

/** @param spans as `mergedSpans` gives them */
export function isInSpans(number: bigint, spans: readonly Span[]): boolean {
  const span = spans[firstWhere(spans, ({ last }) => last >= number)]
  return span !== undefined && span.first <= number
}

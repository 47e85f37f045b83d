import type { Span } from '../catalog/segment-spans.ts'

/** Segments of one timeline, by their numbers, and when they were read; undefined for never. */
export interface KnownSpan extends Span {
  timeline: number
  at: string | undefined
}

/** When segments were read: of each the last moment that was noted. */
export class KnownSpans {
  /** Spans by the timeline, in order. */
  readonly #spans = new Map<number, KnownSpan[]>()

  /** What it covers of others is theirs no longer. */
  note(span: KnownSpan): void {
    const others = this.of(span.timeline).flatMap((other) => {
      if (other.last < span.first || span.last < other.first) return [other]
      return [
        ...(other.first < span.first ? [{ ...other, last: span.first - 1n }] : []),
        ...(other.last > span.last ? [{ ...other, first: span.last + 1n }] : []),
      ]
    })
    const spans = [...others, ...(span.at === undefined ? [] : [span])]
    this.#spans.set(
      span.timeline,
      joined(
        spans.toSorted((a, b) => (a.first < b.first ? -1 : 1)),
        sameMoment,
      ),
    )
  }

  /** What is known of a timeline's segments, in order. */
  of(timeline: number): readonly KnownSpan[] {
    return this.#spans.get(timeline) ?? []
  }

  /** @returns what is known of segments, with what lies between as never read; in order */
  in(timeline: number, first: bigint, last: bigint): KnownSpan[] {
    const spans: KnownSpan[] = []
    let next = first
    for (const known of this.of(timeline)) {
      if (known.last < next) continue
      if (known.first > last) break
      const begin = known.first > next ? known.first : next
      const end = known.last < last ? known.last : last
      if (begin > next) spans.push({ timeline, first: next, last: begin - 1n, at: undefined })
      spans.push({ timeline, first: begin, last: end, at: known.at })
      next = end + 1n
    }
    if (next <= last) spans.push({ timeline, first: next, last, at: undefined })
    return spans
  }

  /** Whether a segment was read. */
  has(timeline: number, number: bigint): boolean {
    return this.of(timeline).some(({ first, last }) => first <= number && number <= last)
  }

  /** Forgets all but these. @param stored spans by the timeline, in order */
  keepOnly(stored: ReadonlyMap<number, readonly Span[]>): void {
    for (const [timeline, spans] of this.#spans) {
      const ranges = stored.get(timeline) ?? []
      const left = spans.flatMap((span) =>
        ranges
          .filter(({ first, last }) => first <= span.last && span.first <= last)
          .map(({ first, last }) => ({
            ...span,
            first: span.first > first ? span.first : first,
            last: span.last < last ? span.last : last,
          })),
      )
      this.#spans.set(timeline, left)
    }
  }

  /** All of them, timeline by timeline. @param most with more, neighbours are joined, of which the older moment counts */
  all(most: number): (KnownSpan & { at: string })[] {
    const all = [...this.#spans.values()].flat()
    const spans = all.length > most ? joined(all, () => true) : all
    return spans.filter((span): span is KnownSpan & { at: string } => span.at !== undefined)
  }
}

const sameMoment = (a: KnownSpan, b: KnownSpan) => a.at === b.at

/** Neighbours as one, of which the older moment counts. */
function joined(spans: readonly KnownSpan[], isOne: (a: KnownSpan, b: KnownSpan) => boolean): KnownSpan[] {
  const result: KnownSpan[] = []
  for (const span of spans) {
    const before = result.at(-1)
    if (
      before &&
      before.timeline === span.timeline &&
      before.last + 1n === span.first &&
      isOne(before, span)
    ) {
      before.last = span.last
      if (span.at! < before.at!) before.at = span.at
    } else result.push({ ...span })
  }
  return result
}

import { segmentNumberOf, type TimelineWal } from '../catalog/wal-ranges.ts'
import { segmentName } from '../postgres/wal-file.ts'
import type { MissingWal } from './facts.ts'

/** What one repository holds of one timeline. */
export interface Holding {
  repository: string
  wal: TimelineWal | undefined
  /** Where the recovery of the oldest backup begins; WAL before is not missed, and none where there is no backup. */
  oldestNeeded: string | undefined
}

/**
 * The WAL that another repository has and this one lacks.
 * @param isLate whether nothing came here for so long that what the other has beyond the end should be here too; else the
 *   newest segments are on their way. A single one may be, at any time.
 */
export function missingIn(
  own: Holding,
  others: readonly Holding[],
  segmentBytes: number,
  isLate: boolean,
): MissingWal[] {
  if (own.oldestNeeded === undefined) return []
  const number = (name: string) => segmentNumberOf(name, segmentBytes)
  // Names of different timelines do not compare, the numbers in them do.
  const least = number(own.oldestNeeded)
  const have = (own.wal?.ranges ?? []).map(({ first, last }) => ({
    first: number(first),
    last: number(last),
  }))
  const end = have.at(-1)?.last ?? -1n
  return others.flatMap(({ repository, wal }) =>
    (wal?.ranges ?? []).flatMap((run) =>
      without({ first: max(number(run.first), least), last: number(run.last) }, have)
        .filter(({ first, last }) => first <= end || (isLate && last > first))
        .map(({ first, last }) => ({
          has: repository,
          timeline: wal!.timeline,
          first: segmentName(wal!.timeline, first, segmentBytes),
          last: segmentName(wal!.timeline, last, segmentBytes),
          segments: Number(last - first) + 1,
        })),
    ),
  )
}

interface Numbers {
  first: bigint
  last: bigint
}

/** What is left of a run without others, which are in order. */
function without(run: Numbers, others: readonly Numbers[]): Numbers[] {
  const left: Numbers[] = []
  let next = run.first
  for (const { first, last } of others) {
    if (last < next) continue
    if (first > run.last) break
    if (first > next) left.push({ first: next, last: first - 1n })
    next = last + 1n
  }
  if (next <= run.last) left.push({ first: next, last: run.last })
  return left
}

const max = (a: bigint, b: bigint) => (a > b ? a : b)

import type { Lsn } from '../postgres/lsn.ts'
import { segmentName, segmentStart } from '../postgres/wal-file.ts'
import type { Carry, WalRecord } from '../postgres/wal-record.ts'
import { readRecords } from '../postgres/wal-records.ts'
import type { WalLeg } from './timeline-path.ts'

/** What the WAL tells about a target. */
export interface WalFinding {
  /** Where the target lies, for a transaction or a restore point. */
  found: Lsn | undefined
  /** When the last transaction ended; microseconds since 1970. */
  lastMoment: bigint | undefined
  /** Where the record of that begins. */
  lastTransaction: Lsn | undefined
  /** The first position after the last record. */
  lastLsn: Lsn | undefined
  /** Names that were seen while looking for one, newest first. */
  restorePoints: string[]
}

export interface WalSource {
  segmentBytes: number
  /** A segment's bytes, checked. */
  read: (name: string) => Promise<Buffer | undefined>
  onProgress: (segments: number) => void
  onEnd: () => void
}

/** A search that is over sooner than this many segments says nothing about itself. */
const QUIET_SEGMENTS = 4

/**
 * Looks from the end of the WAL backwards: for the moment when the last transaction ended, or for the newest
 * occurrence of a transaction's end or a restore point's name.
 * @param legs the WAL that can be reached, oldest first
 */
export async function searchWal(
  legs: readonly WalLeg[],
  target: { kind: 'end' } | { kind: 'xid'; xid: bigint } | { kind: 'name'; name: string },
  source: WalSource,
): Promise<WalFinding> {
  const finding: WalFinding = {
    found: undefined,
    lastMoment: undefined,
    lastTransaction: undefined,
    lastLsn: undefined,
    restorePoints: [],
  }
  let later: Buffer | undefined
  let read = 0
  for (const { timeline, number } of backwards(legs)) {
    const segment = await source.read(segmentName(timeline, number, source.segmentBytes))
    if (!segment) break
    const start = segmentStart(number, source.segmentBytes)
    const { records, validUntil, carry } = readRecords(segment, { segmentStart: start })
    if (validUntil > start) finding.lastLsn ??= validUntil
    note(finding, [...records, ...finishCarried(carry, later)], target)
    if (++read > QUIET_SEGMENTS) source.onProgress(read)
    if (target.kind === 'end' ? finding.lastMoment !== undefined : finding.found !== undefined) break
    later = segment
  }
  if (read > QUIET_SEGMENTS) source.onEnd()
  return finding
}

function* backwards(legs: readonly WalLeg[]): Generator<{ timeline: number; number: bigint }> {
  for (const leg of legs.toReversed()) {
    for (let number = leg.last; number >= leg.first; number--) yield { timeline: leg.timeline, number }
  }
}

/** A record that begins in this segment may end in the next one, which was read before it. */
function finishCarried(carry: Carry | undefined, later: Buffer | undefined): WalRecord[] {
  const begun = carry?.unfinished?.lsn
  if (!carry || begun === undefined || !later) return []
  return readRecords(later, { segmentStart: carry.segmentStart, carry }).records.filter(
    ({ lsn }) => lsn === begun,
  )
}

function note(
  finding: WalFinding,
  seen: readonly WalRecord[],
  target: Parameters<typeof searchWal>[1],
): void {
  for (const record of seen.toReversed()) {
    if (record.kind === 'restorePoint') {
      finding.restorePoints.push(record.name)
      if (target.kind === 'name' && record.name === target.name) finding.found ??= record.lsn
      continue
    }
    finding.lastMoment ??= record.timeMicros
    finding.lastTransaction ??= record.lsn
    // The WAL has 32 bits of an id; the epoch above them is the reader's.
    if (target.kind === 'xid' && record.xid === Number(target.xid & 0xffffffffn)) finding.found ??= record.lsn
  }
}
